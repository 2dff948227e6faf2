"""surprisal: surprisal of every token but the first of each text."""

from contract import answer
from surprisal import AutoHuggingFaceModel


def prepare(inputs):
    """Loads the model and returns the work to be timed."""
    model = AutoHuggingFaceModel.from_pretrained(inputs["model"], model_class="gpt")
    list(model.surprise("Warm up."))
    return lambda: [
        [float(x) for x in next(iter(model.surprise(text, use_bos_token=False))).surprisals][1:]
        for text in inputs["texts"]
    ]


answer(prepare)
