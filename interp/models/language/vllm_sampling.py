"""Rollouts by vLLM in place of our decoding loop: the same jobs in, the same rollouts out. UNTESTED on a real vLLM.

Nothing here has run against vLLM itself (it needs a GPU): a test stands in for it with an engine of the same calls. Token ids
go in and come out; nothing is decoded and encoded again. Two promises of `interp.models.language.sampling` do not hold: vLLM's kernels
round otherwise than the teacher-forced pass, and the same seed may give another text in another batch. The probability that a
token was drawn with is vLLM's own, after temperature, top-k and top-p (`processed_logprobs`).
"""

from collections.abc import Sequence
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.errors import ArgumentError
from interp.kept import kept_while_unchanged
from interp.models.language.prefix import Prefix
from interp.models.language.sampling import BATCH_ROWS, Job, Policy, Rollout, StopRule, stream

if TYPE_CHECKING:
    from interp.models.language.model import LanguageModel

GPU_SHARE = 0.5
"""Of the GPU's memory that vLLM may take: the model that reads the trajectories lies beside it."""


def sample_with_vllm(
    model: "LanguageModel",
    spine: Prefix,
    jobs: Sequence[Job],
    policy: Policy,
    stop: StopRule,
    *,
    batch_rows: int = BATCH_ROWS,
) -> list[Rollout]:
    """Returns what each job writes, in the order of the jobs: interp.models.language.sampling.sample with vLLM as its engine.

    Raises ArgumentError when vLLM is not installed or cannot load the model.
    """
    written: list[list[int]] = [[] for _ in jobs]
    drawn_with: list[list[float]] = [[] for _ in jobs]
    open_ = [index for index, job in enumerate(jobs) if job.room > 0 and not stop.ended(job.begun)]
    if open_:
        from vllm import SamplingParams  # pyright: ignore[reportMissingImports]
        from vllm.inputs import TokensPrompt  # pyright: ignore[reportMissingImports]

        engine = _engine(model.identity.source, model.identity.revision, model.identity.dtype, batch_rows)
        prompts = [
            TokensPrompt(prompt_token_ids=[*spine.ids[0][: jobs[index].kept], *jobs[index].pending]) for index in open_
        ]
        settings = [
            SamplingParams(
                temperature=policy.temperature,
                top_p=policy.top_p,
                top_k=policy.top_k or -1,
                max_tokens=jobs[index].room,
                seed=int(stream(*jobs[index].key).integers(2**31)),
                stop_token_ids=sorted(stop.ids),
                stop=list(stop.strings) or None,
                include_stop_str_in_output=True,
                ignore_eos=True,  # the stop rule alone says where a text ends
                detokenize=bool(stop.strings),
                skip_special_tokens=False,
                logprobs=0,  # of the token drawn alone
            )
            for index in open_
        ]
        outputs = engine.generate(prompts, settings, use_tqdm=False)
        for index, output in zip(open_, outputs, strict=True):
            written[index] = until_stop(jobs[index].begun, output.outputs[0].token_ids, stop)
            logprobs = zip(written[index], output.outputs[0].logprobs, strict=False)
            drawn_with[index] = [exp(among[token].logprob) for token, among in logprobs]
    return [
        Rollout(tokens, stop.ended([*job.begun, *tokens]), probability)
        for job, tokens, probability in zip(jobs, written, drawn_with, strict=True)
    ]


def until_stop(pending: Sequence[int], token_ids: Sequence[int], stop: StopRule) -> list[int]:
    """Returns the tokens up to the first at which the rule says the text has ended; all of them where it never does.

    vLLM looks for stop strings in what it writes alone, the rule in the pending tokens too.
    """
    for n_tokens in range(1, len(token_ids) + 1):
        if stop.ended([*pending, *token_ids[:n_tokens]]):
            return list(token_ids[:n_tokens])
    return list(token_ids)


def check_vllm() -> None:
    """Raises ArgumentError when vLLM is not installed."""
    from importlib.util import find_spec

    if find_spec("vllm") is None:
        raise ArgumentError(
            "--sampler vllm needs vLLM, which is not installed: pip install vllm, or leave --sampler out to write rollouts with "
            "the toolkit's own loop."
        )


@kept_while_unchanged(lambda source, *_: (Path(source),), maxsize=1)
def _engine(source: str, revision: str, dtype: str, batch_rows: int) -> Any:
    """The engine of a model, loaded once in a process."""
    if source.startswith(("asset:", "trained:")):
        raise ArgumentError("--sampler vllm reads models from the hub or a folder: this one comes with the toolkit.")
    if Path(source).is_file() or (Path(source) / "adapter_config.json").is_file():
        raise ArgumentError(
            f"--sampler vllm reads folders that hold a whole model, not {source}: load it here, and save it with save_pretrained."
        )
    from vllm import LLM  # pyright: ignore[reportMissingImports]

    place = {} if Path(source).is_dir() else {"revision": revision}
    return LLM(
        model=source,
        dtype=dtype,
        max_num_seqs=batch_rows,
        logprobs_mode="processed_logprobs",
        enable_prefix_caching=True,  # every job of a trajectory begins alike
        gpu_memory_utilization=GPU_SHARE,
        trust_remote_code=False,
        **place,
    )
