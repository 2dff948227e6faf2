"""What sharing contexts saves where answers are scored: `python -m benchmarks context_recall`.

Three ways compute ln p of every value of a context behind every question, with the asked pair in the context and without it:
  shared    this toolkit: each context is read once, questions branch off it as rows of one batch, and longer values off these;
  script    transformers used well: every distinct prompt of context, question and value once, in batches of 32 padded on the
            right, logits of the value's tokens alone;
  obvious   one prompt at a time: context, question and value in a forward pass of their own.
Values that are single tokens share one prompt in the script, and none in the obvious way. Then contexts of prose grow.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from benchmarks.tables import Difference, Results, compare, grow, results
from interp.models.language.model import LanguageModel
from interp.models.loading.language import load
from probes.context_recall.draft import Ids, Question, Sample
from probes.context_recall.measure import Reading, build_sample, measure_samples
from probes.context_recall.plan import CellUnit
from probes.context_recall.settings import Settings
from probes.context_recall.words import words_of

NAME, MODEL = "context_recall", "smollm2-135m"
TOLERANCE = 1e-3
"""Nats: batches of another size round differently."""
ROWS = 32

Scores = Float[np.ndarray, "asked logp_and_margin"]


@dataclass(frozen=True)
class Sizes:
    """How much is done."""

    cells: tuple[tuple[str, int], ...]
    """Tasks with their options, and contexts of each."""
    repetitions: int
    context_tokens: tuple[int, ...]
    """For growth."""
    repetitions_of_growth: int


FULL = Sizes((("mqar(pairs=8)", 1), ("kv_single(pairs=8)", 1)), 1, (128, 256), 1)
QUICK = Sizes((("mqar(pairs=3, asked=1)", 1),), 1, (96, 128), 1)


@dataclass(frozen=True)
class Asked:
    """A question behind a context."""

    context: Ids
    question: Question

    @property
    def values(self) -> list[Ids]:
        """Right values, then wrong ones."""
        return [*self.question.right, *self.question.wrong]

    def prompt(self, value: Ids) -> Ids:
        """What is read to score a value."""
        return (*self.context, *self.question.ids, *value[:-1])


def run(sizes: Sizes) -> Results:
    """Returns the seconds of the three ways, and growth by length of the context."""
    model = load(MODEL)
    samples = [one for text, n in sizes.cells for one in samples_of(model, text, n)]
    shared(model, samples[:1])  # warm up
    return results(ways(model, samples, sizes.repetitions), growth(model, sizes))


def samples_of(model: LanguageModel, text: str, n: int) -> list[Sample]:
    """Returns contexts of a task at the size in its brackets."""
    from probes.context_recall.tasks.catalogue import task_of

    settings = Settings()
    unit = CellUnit(text, text, tuple(task_of(text).cells[0].items()), n, (), ())
    words = words_of(model.tokenizer, settings.words)
    return [build_sample(settings, model, unit, number, words) for number in range(n)]


def all_asked(samples: Sequence[Sample]) -> list[Asked]:
    """Every question behind its context, then the first behind the context without its pair: the order of `shared`."""
    found = []
    for sample in samples:
        found += [Asked(sample.ids, question) for question in sample.questions]
        without = sample.without[0]
        found += [] if without is None else [Asked(without, sample.questions[0])]
    return found


def shared(model: LanguageModel, samples: Sequence[Sample]) -> Scores:
    """The toolkit's scores: ln p of the likeliest right value, and minus that of the likeliest other one."""
    answers = measure_samples(Reading(model, (), (), None), samples)["answers"]
    answers = answers.assign(is_without=answers["condition"] != "whole")
    return answers.sort_values(["number", "is_without", "question"])[["logp_nats", "margin_nats"]].to_numpy()


@torch.inference_mode()
def script(model: LanguageModel, samples: Sequence[Sample], rows: int, distinct: bool) -> Scores:
    """The scripts: prompts in padded batches of that many rows, each `distinct` one once or all of them."""
    hf: Any = model.hf
    asked = all_asked(samples)
    wanted = [(one, value) for one in asked for value in one.values]
    prompts = [one.prompt(value) for one, value in wanted]
    order = sorted(dict.fromkeys(prompts) if distinct else prompts, key=len)
    starts = {one.prompt(value): len(one.context) + len(one.question.ids) - 1 for one, value in wanted}
    nats: dict[Ids, torch.Tensor] = {}
    for first in range(0, len(order), rows):
        batch = order[first : first + rows]
        width = max(map(len, batch))
        ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in batch])
        hidden = hf.base_model(ids, use_cache=False).last_hidden_state
        for row, prompt in enumerate(batch):
            nats[prompt] = torch.log_softmax(hf.lm_head(hidden[row, starts[prompt] : len(prompt)]), dim=-1)

    def likeliest(one: Asked, values: Sequence[Ids]) -> float:
        return max(float(nats[one.prompt(value)][range(len(value)), list(value)].sum()) for value in values)

    best = [[likeliest(one, part) for part in (one.question.right, one.question.wrong)] for one in asked]
    return np.array([[right, right - wrong] for right, wrong in best])


def ways(model: LanguageModel, samples: Sequence[Sample], repetitions: int) -> list[dict[str, Any]]:
    """Rows of all ways."""
    n_values = sum(len(one.values) for one in all_asked(samples))
    return compare(
        {
            "model": MODEL, "benchmark": NAME, "kind": "speed", "amount_name": "values",
            "case": f"{len(samples)} contexts, {len(all_asked(samples))} questions behind them, {n_values} values",
        },
        {
            ("toolkit", "contexts read once, questions and values branch off them"): lambda: shared(model, samples),
            ("baseline", "every distinct prompt once, in padded batches"): lambda: script(model, samples, ROWS, True),
            ("obvious", "one prompt at a time"): lambda: script(model, samples, 1, False),
        },
        repetitions,
        apart,
        lambda *_: n_values,
    )  # fmt: skip


def apart(ours: Scores, theirs: Scores) -> Difference:
    """The largest difference of ln p or of a margin; infinite where one lacks a question."""
    largest = float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else float("inf")
    return Difference("largest difference of ln p or a margin, in nats", largest, ours.size, TOLERANCE)


def growth(model: LanguageModel, sizes: Sizes) -> list[dict[str, Any]]:
    """Rows by tokens of the context: passwords in prose."""

    def prepare(n: int) -> Callable[[], Scores]:
        samples = samples_of(model, f"passkey(tokens={n})", 1)
        return lambda: shared(model, samples)

    labels = {"model": MODEL, "benchmark": NAME, "curve": "context_tokens"}
    return grow(labels, sizes.context_tokens, sizes.repetitions_of_growth, prepare)
