"""What sharing, teacher forcing and looking inside the fused kernel save: `python -m benchmarks retrieval_heads`.

Four ways score the same samples:
  shared    this toolkit: shared prefixes, batched answers, one teacher-forced pass (logit contributions included);
  script    transformers used well: what two prompts begin with is read once (the cache is cut back and read on from), prompts by
            the fused kernel, eager attention only for the steps of an answer, whose last rows are kept;
  plain     this toolkit's oracle (--no-sharing): one prefill per sample by the fused kernel, eager attention at each step;
  obvious   what one writes first: transformers with eager attention, one prefill per sample, output_attentions at each step.
Only the first way computes logit contributions. Then a prefill with and without its last row recorded, one long prompt
beside a prefill by transformers that records nothing (for memory), and one sample of ever longer prompts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import AutoModelForCausalLM, DynamicCache

from benchmarks.tables import Difference, Results, compare, grow, results
from interp.models.language.model import LanguageModel
from interp.models.language.recording import TopKeys
from interp.models.loading.converted import converted_asset
from interp.models.loading.language import load
from interp.stimuli.haystack import build_haystack
from interp.stimuli.prose import news_articles
from probes.retrieval_heads.answers import answer_plainly
from probes.retrieval_heads.measure import measure_samples
from probes.retrieval_heads.needles import read_needles
from probes.retrieval_heads.scores import CopyScores, copy_scores
from probes.retrieval_heads.stimuli import Sample, build_frame, build_samples

NAME, MODEL = "retrieval_heads", "smollm2-135m"


@dataclass(frozen=True)
class Sizes:
    """How much is done."""

    grids: tuple[tuple[int, int, int, bool], ...]
    """Prompt tokens, depths, repetitions, and whether the oracle is timed too."""
    recorded_tokens: int
    repetitions_recorded: int
    long_tokens: int
    context_tokens: tuple[int, ...]
    repetitions_of_growth: int
    answer_tokens: int
    """Tokens of an answer, at most."""


FULL = Sizes(((512, 5, 2, True), (2048, 5, 1, False)), 1024, 3, 4096, (512, 1024, 2048, 4096), 3, 28)
QUICK = Sizes(((128, 2, 1, True),), 128, 1, 128, (128, 160), 1, 6)


def run(sizes: Sizes) -> Results:
    """Returns the seconds of all ways by prompt length, the cost of recording, memory, and growth."""
    model = load(MODEL)
    one_sample(model, 256, sizes.answer_tokens)()  # warm up
    comparison = []
    for length, n_depths, repetitions, oracle in sizes.grids:
        samples = samples_of(model, [(length, step / (n_depths - 1)) for step in range(n_depths)])
        comparison += scoring(model, samples, sizes.answer_tokens, repetitions, oracle)
    comparison += [*recording(model, sizes), *long_prompt(model, sizes)]
    labels = {"model": MODEL, "benchmark": NAME, "curve": "context_tokens"}
    work = partial(one_sample, model, most=sizes.answer_tokens)
    growth = grow(labels, sizes.context_tokens, sizes.repetitions_of_growth, work)
    return results(comparison, growth)


def samples_of(model: LanguageModel, grid: list[tuple[int, float]]) -> list[Sample]:
    """One needle at every length and depth of the grid."""
    needle = read_needles()[0]
    frame = build_frame(model.tokenizer, needle, "auto", "auto", MODEL)
    haystack = build_haystack(model.tokenizer, news_articles(), max(n for n, _ in grid), seed=0, key=needle.id)
    return build_samples(model.tokenizer, needle, haystack, frame, grid)


def scoring(model: LanguageModel, samples: list[Sample], most: int, repetitions: int, oracle: bool) -> list[dict]:
    """Rows of the three ways in answers of at most so many tokens, their scores compared head by head."""
    script = AutoModelForCausalLM.from_pretrained(
        converted_asset(MODEL), dtype=torch.float32, attn_implementation="eager"
    ).eval()
    fused = AutoModelForCausalLM.from_pretrained(converted_asset(MODEL), dtype=torch.float32).eval()
    for one in (script, fused):
        one(torch.tensor([[1] * 256]))  # warm up
    stop = stop_of(model)
    n_prompt = sum(len(sample.ids) for sample in samples)
    ways: dict[tuple[str, str], Callable[[], Any]] = {
        ("toolkit", "shared prefixes, batched answers, one teacher-forced pass"): partial(
            shared_way, model, samples, most
        ),
        ("baseline", "shared beginnings by cropping the cache, eager attention for answers alone"): lambda: script_well(
            fused, samples, stop, most
        ),
        ("obvious", "eager attention, output_attentions at each step"): lambda: [
            script_way(script, sample, stop, most) for sample in samples
        ],
    }
    if oracle:
        ways["toolkit", "its oracle, --no-sharing"] = lambda: [
            plain_way(model, sample, stop, most) for sample in samples
        ]
    case = f"{len(samples)} depths, prompts of {samples[0].context_tokens} tokens"
    return compare(
        {"model": MODEL, "benchmark": NAME, "kind": "speed", "case": case, "amount_name": "prompt tokens read"},
        ways,
        repetitions,
        scores_apart,
        lambda _way, found: int(found["samples"]["tokens_read"].sum()) if isinstance(found, dict) else n_prompt,
    )


def scores_apart(tables: dict, scores: list[CopyScores]) -> Difference:
    """The largest difference of a head's score in a sample, heads with near-ties left out."""
    ours = tables["sample_head_scores"]
    clear = (ours["near_ties"] == 0).to_numpy()
    gaps = []
    for column in ("set_score", "count_score"):
        theirs = torch.stack([getattr(score, column) for score in scores]).flatten().numpy()
        gaps.append(abs(ours[column].to_numpy() - theirs)[clear].max())
    return Difference("largest difference of a copy score", float(max(gaps)), 2 * int(clear.sum()), 1e-9)


def stop_of(model: LanguageModel) -> list[int]:
    """Token ids that end an answer."""
    return [model.tokenizer.eos_token_id]


def shared_way(model: LanguageModel, samples: list[Sample], most: int) -> dict:
    """The toolkit's tables."""
    return measure_samples(model, samples, max_new_tokens=most, stop_ids=stop_of(model), sharing=True)


def plain_way(model: LanguageModel, sample: Sample, stop: list[int], most: int) -> CopyScores:
    """The toolkit's oracle."""
    answer = answer_plainly(model, sample.ids, max_new_tokens=most, stop_ids=stop)
    return scores_of(sample, answer.emitted, answer.attended, answer.logits)


@torch.inference_mode()
def script_well(hf: Any, samples: list[Sample], stop: list[int], most: int) -> list[CopyScores]:
    """The script of a good engineer: the deepest needle first, so that every next prompt goes on from the cache of the last."""
    cache, read, found = DynamicCache(config=hf.config), [], {}
    for sample in sorted(samples, key=lambda sample: -sample.needle_start):
        common = next((n for n, (a, b) in enumerate(zip(read, sample.ids, strict=False)) if a != b), len(read))
        common = min(common, len(sample.ids) - 2)
        if common < cache.get_seq_length():
            cache.crop(common - cache.get_seq_length())
        hf(torch.tensor([sample.ids[common:-1]]), past_key_values=cache, logits_to_keep=1)
        read = list(sample.ids[:-1])
        hf.set_attn_implementation("eager")
        emitted, steps = answer_of(hf, cache, sample, stop, most)
        hf.set_attn_implementation("sdpa")
        found[sample.sample_id] = scores_of_steps(sample, emitted, steps)
    return [found[sample.sample_id] for sample in samples]


@torch.inference_mode()
def script_way(hf: torch.nn.Module, sample: Sample, stop: list[int], most: int) -> CopyScores:
    """The script one writes first."""
    cache = DynamicCache(config=hf.config)
    hf(torch.tensor([sample.ids[:-1]]), past_key_values=cache, logits_to_keep=1)
    return scores_of_steps(sample, *answer_of(hf, cache, sample, stop, most))


def answer_of(
    hf: torch.nn.Module, cache: DynamicCache, sample: Sample, stop: list[int], most: int
) -> tuple[list[int], list[torch.Tensor]]:
    """The answer's tokens, written one by one, and the two most attended keys of every head at each."""
    token, emitted, steps = sample.ids[-1], [], []
    while len(emitted) < most and not (emitted and token in stop):
        output = hf(torch.tensor([[token]]), past_key_values=cache, output_attentions=True)
        steps.append(torch.stack([layer[0, :, -1] for layer in output.attentions]).topk(2, dim=-1))
        token = int(output.logits[0, -1].argmax())
        emitted.append(token)
    return emitted, steps


def scores_of_steps(sample: Sample, emitted: list[int], steps: list[Any]) -> CopyScores:
    """Copy scores from the two most attended keys of each step."""
    attended, weights = (torch.stack([step[part] for step in steps], dim=2) for part in (1, 0))
    return scores_of(sample, emitted, attended, weights.log())


def scores_of(sample: Sample, emitted: list[int], attended: torch.Tensor, logits: torch.Tensor) -> CopyScores:
    """Copy scores from what was attended to: the arithmetic is common to all ways."""
    return copy_scores(
        attended,
        logits,
        torch.tensor([*sample.ids, *emitted]),
        torch.tensor(emitted),
        (sample.needle_start, sample.needle_end),
        (sample.gold_start, sample.gold_end),
    )


def recording(model: LanguageModel, sizes: Sizes) -> list[dict]:
    """Rows of a prefill with and without a recording of its last row, and whether what comes out is the same."""
    n = sizes.recorded_tokens
    haystack = build_haystack(model.tokenizer, news_articles(), n, seed=0, key="recording")
    ids = list(haystack.ids[:n])

    def prefill() -> torch.Tensor:
        return model.extend(model.prefix(room=n), [ids], logits="last")

    def recorded() -> torch.Tensor:
        with model.record(torch.tensor([[n - 1]]), TopKeys(2)):
            return prefill()

    return compare(
        {"model": MODEL, "benchmark": NAME, "kind": "recording", "case": f"prompt of {n} tokens", "amount_name": "prompt tokens read"},
        {("baseline", "prefill, nothing recorded"): prefill, ("toolkit", "prefill, its last row recorded"): recorded},
        sizes.repetitions_recorded,
        logits_apart,
        lambda *_: n,
    )  # fmt: skip


def logits_apart(first: torch.Tensor, other: torch.Tensor) -> Difference:
    """The largest difference of a logit."""
    return Difference("largest difference of a logit", float((first - other).abs().max()), first.numel(), 1e-3)


def one_sample(model: LanguageModel, length: int, most: int) -> Callable[[], dict]:
    """Measures one needle in the middle of a prompt."""
    samples = samples_of(model, [(length, 0.5)])
    return lambda: shared_way(model, samples, most)


def long_prompt(model: LanguageModel, sizes: Sizes) -> list[dict]:
    """Rows of one long prompt answered, recorded and scored, and of a prefill by transformers alone."""
    samples = samples_of(model, [(sizes.long_tokens, 0.5)])
    hf = AutoModelForCausalLM.from_pretrained(converted_asset(MODEL), dtype=torch.float32).eval()
    hf(torch.tensor([[1] * 256]))  # warm up

    @torch.inference_mode()
    def prefill() -> int:
        cache = DynamicCache(config=hf.config)
        return int(hf(torch.tensor([samples[0].ids]), past_key_values=cache, logits_to_keep=1).logits.argmax())

    def first_token_apart(tables: dict, token: int) -> Difference:
        other = tables["samples"]["answer_token_ids"].iloc[0][0] != token
        return Difference("first tokens of the answer that differ", float(other), 1, 0.0)

    case = f"one prompt of {sizes.long_tokens} tokens"
    return compare(
        {"model": MODEL, "benchmark": NAME, "kind": "memory", "case": case, "amount_name": "prompt tokens read"},
        {
            ("toolkit", "answered, recorded and scored"): lambda: shared_way(model, samples, sizes.answer_tokens),
            ("baseline", "prefill by transformers (sdpa), nothing recorded"): prefill,
        },
        1,
        first_token_apart,
        lambda *_: len(samples[0].ids),
    )
