"""lm-eval: log-likelihood of each text after its first token."""

from contract import answer
from lm_eval.models.huggingface import HFLM


def prepare(inputs):
    """Loads the model and returns the work to be timed."""
    model = HFLM(pretrained=inputs["model"], device="cpu", dtype="float32", batch_size=1)
    requests = [((str(n), ""), ids[:1], ids[1:]) for n, ids in enumerate(inputs["ids"])]
    model._loglikelihood_tokens(requests[:1], disable_tqdm=True)
    return lambda: [[float(nats)] for nats, _ in model._loglikelihood_tokens(requests, disable_tqdm=True)]


answer(prepare)
