"""What sharing, teacher forcing and looking inside the fused kernel save: `python -m benchmarks.retrieval_heads [2048]`.

With prompt lengths, only these are timed, and neither memory nor the cost of recording is measured.

Three ways score the same samples:
  shared    this toolkit: shared prefixes, batched answers, one teacher-forced pass (logit contributions included);
  plain     this toolkit's oracle (--no-sharing): one prefill per sample by the fused kernel, eager attention at each step;
  script    what one writes first: transformers with eager attention, one prefill per sample, output_attentions at each step.
The two slow ways are timed without logit contributions, which they do not compute.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache, PreTrainedTokenizerBase

from interp.models.language import LanguageModel
from interp.models.loading import converted_asset, load
from interp.models.recording import TopKeys
from interp.prose import news_articles
from probes.retrieval_heads.haystack import build_haystack
from probes.retrieval_heads.measure import measure_samples
from probes.retrieval_heads.needles import read_needles
from probes.retrieval_heads.plain import answer_plainly
from probes.retrieval_heads.scores import CopyScores, copy_scores
from probes.retrieval_heads.stimuli import Sample, build_frame, build_samples

MODEL = "smollm2-135m"
GRIDS = {
    2048: [(2048, step / 9) for step in range(10)],  # the depths of the paper
    4096: [(4096, step / 4) for step in range(5)],
}
N_NEEDLES = 1
MAX_NEW_TOKENS = 28
LONG, MIDDLE = 8000, 4096
ROUNDS = 3


def main(lengths: list[int]) -> None:
    """Prints seconds and scores by prompt length, and unless lengths are given peak memory and the cost of recording."""
    torch.set_num_threads(1)  # waiting threads would count as work
    model = load(MODEL)
    stop = [model.tokenizer.eos_token_id]
    model.prefix([1] * 256)  # warm up
    for length in lengths or GRIDS:
        samples = samples_of(model, GRIDS[length])
        say(f"{len(samples)} samples of {length} tokens, {MODEL} float32, one thread, processor seconds\n")
        speed(model, samples, stop)
    if not lengths:
        recording_cost(model)
        memory()


def samples_of(model: LanguageModel, grid: list[tuple[int, float]]) -> list[Sample]:
    """The same samples for all ways."""
    samples = []
    for needle in read_needles()[:N_NEEDLES]:
        frame = build_frame(model.tokenizer, needle, "auto", "auto", MODEL)
        haystack = build_haystack(model.tokenizer, news_articles(), max(n for n, _ in grid), seed=0, key=needle.id)
        samples += build_samples(model.tokenizer, needle, haystack, frame, grid)
    return samples


# ---------------------------------------------------------------------- seconds and scores


def speed(model: LanguageModel, samples: list[Sample], stop: list[int]) -> None:
    """Times the three ways and compares their scores head by head."""
    shared_seconds, tables = timed(
        lambda: measure_samples(model, samples, max_new_tokens=MAX_NEW_TOKENS, stop_ids=stop, sharing=True)
    )
    plain_seconds, plain = timed(lambda: [plain_way(model, sample, stop) for sample in samples])
    script = AutoModelForCausalLM.from_pretrained(
        converted_asset(MODEL), dtype=torch.float32, attn_implementation="eager"
    ).eval()
    script_seconds, scripted = timed(lambda: [script_way(script, sample, stop) for sample in samples])
    say("| way | processor seconds | times the shared way |\n|---|---|---|")
    for name, seconds in (("shared", shared_seconds), ("plain", plain_seconds), ("script", script_seconds)):
        say(f"| {name} | {seconds:.1f} | {seconds / shared_seconds:.1f} |")
    n_read, n_prompt = tables["samples"]["tokens_read"].sum(), tables["samples"]["context_tokens"].sum()
    say(f"\nthe shared way read {n_read:,} of {n_prompt:,} prompt tokens ({n_read / n_prompt:.0%})")
    ours = tables["sample_head_scores"]
    say(
        "\n| shared against | scores compared | different | explained by near-ties | largest difference |\n|---|---|---|---|---|"
    )
    for name, scores in (("plain", plain), ("script", scripted)):
        theirs = {
            column: torch.stack([getattr(score, column) for score in scores]).flatten().numpy()
            for column in ("set_score", "count_score")
        }
        gaps = sum((ours[column].to_numpy() - theirs[column]).__abs__() for column in theirs)
        differ = gaps > 1e-9
        tied = (ours["near_ties"].to_numpy() > 0) & differ
        say(f"| {name} | {2 * len(ours):,} | {int(differ.sum())} | {int(tied.sum())} | {gaps.max():.3g} |")
    say("")


def timed(work: Callable[[], object]) -> tuple[float, object]:
    """Processor seconds of one call, and what it gave: unlike wall time they do not count what else the machine does."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def plain_way(model: LanguageModel, sample: Sample, stop: list[int]) -> CopyScores:
    """The toolkit's oracle."""
    answer = answer_plainly(model, sample.ids, max_new_tokens=MAX_NEW_TOKENS, stop_ids=stop)
    return scores_of(sample, answer.emitted, answer.attended, answer.logits)


@torch.inference_mode()
def script_way(hf: torch.nn.Module, sample: Sample, stop: list[int]) -> CopyScores:
    """The script one writes first."""
    cache = DynamicCache(config=hf.config)
    hf(torch.tensor([sample.ids[:-1]]), past_key_values=cache, logits_to_keep=1)
    token, emitted, steps = sample.ids[-1], [], []
    while len(emitted) < MAX_NEW_TOKENS and not (emitted and token in stop):
        output = hf(torch.tensor([[token]]), past_key_values=cache, output_attentions=True)
        steps.append(torch.stack([layer[0, :, -1] for layer in output.attentions]).topk(2, dim=-1))
        token = int(output.logits[0, -1].argmax())
        emitted.append(token)
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


# ---------------------------------------------------------------------- cost of recording


def recording_cost(model: LanguageModel) -> None:
    """Times a prefill with and without a recording of its last row, in turn."""
    haystack = build_haystack(model.tokenizer, news_articles(), MIDDLE, seed=0, key="recording")
    ids = list(haystack.ids[:MIDDLE])

    def recorded() -> None:
        with model.record(torch.tensor([[MIDDLE - 1]]), TopKeys(2)):
            model.prefix(ids)

    pairs = [(timed(lambda: model.prefix(ids))[0], timed(recorded)[0]) for _ in range(ROUNDS)]
    bare, looked = (median(side) for side in zip(*pairs, strict=True))
    ratios = ", ".join(f"{with_ / without - 1:+.1%}" for without, with_ in pairs)
    say(f"prefill of {MIDDLE} tokens: {bare:.2f} s, with its last row recorded {looked:.2f} s (medians of {ROUNDS}), ")
    say(f"{looked / bare - 1:+.1%}; by pair {ratios}")


# ---------------------------------------------------------------------- peak memory


def memory() -> None:
    """Peak memory of processes of their own: a prefill that records nothing, and one sample measured whole."""
    say("\n| one prompt of 8000 tokens | peak memory, MB |\n|---|---|")
    peaks = {}
    for name in ("prefill", "measured"):
        output = subprocess.run(
            [sys.executable, "-m", "benchmarks.retrieval_heads", name], check=True, capture_output=True, text=True
        )
        peaks[name] = float(output.stdout.split()[-1])
    say(f"| transformers prefill (sdpa), nothing recorded | {peaks['prefill']:.0f} |")
    say(f"| answered, recorded and scored by the toolkit | {peaks['measured']:.0f} |")
    say(f"\nratio {peaks['measured'] / peaks['prefill']:.2f}")


def long_sample(tokenizer: PreTrainedTokenizerBase) -> Sample:
    """One needle in the middle of a prompt of 8000 tokens."""
    needle = read_needles()[0]
    frame = build_frame(tokenizer, needle, "auto", "auto", MODEL)
    haystack = build_haystack(tokenizer, news_articles(), LONG, seed=0, key=needle.id)
    return build_samples(tokenizer, needle, haystack, frame, [(LONG, 0.5)])[0]


def prefill_alone() -> None:
    """A prefill by transformers alone."""
    folder = converted_asset(MODEL)
    sample = long_sample(AutoTokenizer.from_pretrained(folder))
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        hf(torch.tensor([sample.ids]), past_key_values=DynamicCache(config=hf.config), logits_to_keep=1)


def measured_whole() -> None:
    """The same prompt through the probe."""
    model = load(MODEL)
    measure_samples(
        model,
        [long_sample(model.tokenizer)],
        max_new_tokens=MAX_NEW_TOKENS,
        stop_ids=[model.tokenizer.eos_token_id],
        sharing=True,
    )


def say(text: str) -> None:
    """Prints at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1:] in (["prefill"], ["measured"]):
        {"prefill": prefill_alone, "measured": measured_whole}[sys.argv[1]]()
        status = Path("/proc/self/status").read_text(encoding="ascii")  # getrusage would count the parent's peak too
        say(str(int(status.split("VmHWM:")[1].split()[0]) / 1024))
    else:
        main([int(length) for length in sys.argv[1:]])
