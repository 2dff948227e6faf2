"""Measuring each kind of work unit: stimuli are built from the settings, then handed to the probe."""

import hashlib

import numpy as np
import pandas as pd

from interp.models.encoding import beginning, stop_ids
from interp.models.language import LanguageModel
from interp.prose import news_articles, read_folder
from probes.retrieval_heads.ablation import Prose, measure_ablation
from probes.retrieval_heads.echo_induction import measure_echo_induction, repeated_tokens
from probes.retrieval_heads.haystack import Haystack, build_haystack
from probes.retrieval_heads.measure import measure_samples
from probes.retrieval_heads.needles import Needle, read_needles
from probes.retrieval_heads.plan import AblationUnit, DetectionUnit, EchoUnit
from probes.retrieval_heads.settings import Settings
from probes.retrieval_heads.stimuli import Frame, build_control, build_frame, build_samples

CALIBRATION_TOKENS = 512
"""Tokens of prose over which mean head outputs are taken."""

Frames = dict[str, pd.DataFrame]


def measure_detection(settings: Settings, model: LanguageModel, unit: DetectionUnit) -> Frames:
    """Returns the rows of a few needles: of each its samples, and a control without it as long as the shortest of them."""
    samples, frame = [], None
    for needle_id, cells in unit.cells:
        needle = _needle(settings, needle_id)
        frame, haystack = _surroundings(settings, model, needle, max(tokens for tokens, _ in cells))
        samples += build_samples(model.tokenizer, needle, haystack, frame, cells)
        shortest = min(tokens for tokens, _ in cells)
        samples.append(build_control(model.tokenizer, needle, haystack, frame, context_tokens=shortest))
    assert frame is not None
    return measure_samples(
        model,
        samples,
        max_new_tokens=settings.max_new_tokens,
        stop_ids=_stop_ids(model, frame),
        sharing=settings.sharing,
    )


def measure_echo(settings: Settings, model: LanguageModel, unit: EchoUnit) -> Frames:
    """Returns the echo and induction scores on one block of random tokens."""
    tokenizer = model.tokenizer
    special = set(tokenizer.all_special_ids)
    ids = repeated_tokens(
        [id for id in range(len(tokenizer)) if id not in special],
        block_tokens=settings.echo_block_tokens,
        repeats=settings.echo_repeats,
        prefix=beginning(tokenizer, settings.bos),
        generator=_generator(settings.seed, unit.id),
    )
    frame = measure_echo_induction(
        model, ids, block_tokens=settings.echo_block_tokens, repeats=settings.echo_repeats, draw=unit.draw
    )
    return {"echo_induction": frame}


def measure_held_out(settings: Settings, model: LanguageModel, unit: AblationUnit) -> Frames:
    """Returns one held-out needle's answers under every condition, with the surprisal of a passage per sample."""
    needle = _needle(settings, unit.needle_id)
    frame, haystack = _surroundings(settings, model, needle, max(settings.ablation_context_tokens))
    cells = [(tokens, depth) for tokens in settings.ablation_context_tokens for depth in settings.ablation_depths]
    samples = build_samples(model.tokenizer, needle, haystack, frame, cells)
    prose = {sample.sample_id: _passage(settings, model, f"prose-{sample.sample_id}") for sample in samples}
    means = None
    if "mean" in settings.ablation_modes:
        calibration = build_haystack(
            model.tokenizer, news_articles(), CALIBRATION_TOKENS, seed=settings.seed, key="calibration"
        )
        means = model.mean_head_outputs(
            [calibration.ids[: min(CALIBRATION_TOKENS, model.context_window or CALIBRATION_TOKENS)]]
        )
    ablation = measure_ablation(
        model,
        samples,
        prose,
        unit.conditions,
        means=means,
        max_new_tokens=settings.max_new_tokens,
        stop_ids=_stop_ids(model, frame),
    )
    return {"ablation": ablation}


def _needle(settings: Settings, needle_id: str) -> Needle:
    return next(needle for needle in read_needles(settings.needles) if needle.id == needle_id)


def _surroundings(settings: Settings, model: LanguageModel, needle: Needle, n_tokens: int) -> tuple[Frame, Haystack]:
    """The prompt around a needle's contexts, and its haystack."""
    texts = news_articles() if settings.haystack is None else read_folder(settings.haystack)
    frame = build_frame(
        model.tokenizer,
        needle,
        settings.prompt_format,
        settings.bos,
        model.identity.name,
        settings.recall_measure,
        settings.template_args,
    )
    return frame, build_haystack(model.tokenizer, texts, n_tokens, seed=settings.seed, key=needle.id)


def _passage(settings: Settings, model: LanguageModel, key: str) -> Prose:
    """A passage of news prose; the first of its tokens only begins it and is not scored."""
    haystack = build_haystack(model.tokenizer, news_articles(), settings.prose_tokens, seed=settings.seed, key=key)
    start = beginning(model.tokenizer, settings.bos)
    return Prose(key, (*start, *haystack.ids[: settings.prose_tokens]))


def _stop_ids(model: LanguageModel, frame: Frame) -> list[int]:
    """Chat answers end with the model's end token; plain ones with a line break too, after which models ramble on."""
    return stop_ids(model.tokenizer, model.hf.generation_config, at_newline=frame.prompt_format != "chat")


def _generator(seed: int, unit_id: str) -> np.random.Generator:
    return np.random.default_rng(list(hashlib.sha256(f"{seed} {unit_id}".encode()).digest()))
