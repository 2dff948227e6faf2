"""Questions answered from what a retention policy keeps of the context, and whether the right pair's keys are among it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.errors import UserError
from interp.models.language.forward import LOGITS_AT_ONCE
from interp.models.language.model import LanguageModel
from interp.retention.contract import Setting, check_sinks, evictable_layers, n_sure_keys
from interp.retention.limits import LONGEST_CONTINUATION, n_kept
from interp.retention.policies.catalogue import build
from interp.retention.policies.layer import Layer
from interp.retention.simulate import PolicyEdit, ReadPrompt, read_prompts
from interp.stimuli.word_classes import token_classes
from probes.context_recall.draft import Question, Sample
from probes.context_recall.plan import FIRST_KEPT, KEPT_BY, KeptBy
from probes.context_recall.scores import margin_of

Frames = dict[str, pd.DataFrame]


@dataclass(frozen=True)
class Retention:
    """Which policies answer, how many of a context's keys each may keep, and what random ones draw from."""

    model: LanguageModel
    conditions: Sequence[KeptBy]
    share: float
    seed: tuple[int, ...] = ()

    def budget(self, n_tokens: int) -> int:
        """Returns how many keys of a context are kept."""
        return n_kept(n_tokens, self.share)

    def refusal(self, condition: KeptBy, n_tokens: int) -> str:
        """Returns why a policy cannot act on a context of that length, in a sentence; nothing where it can."""
        policy, budget = build(condition.policy), self.budget(n_tokens)
        n_sure = n_sure_keys(Setting(policy, budget, first=FIRST_KEPT), n_tokens, ())
        least = max(FIRST_KEPT + 1, policy.least, n_sure)
        if budget >= least:
            return ""
        name = condition.condition.removeprefix(KEPT_BY)
        return f"{name} keeps at least {least} keys, and {self.share:g} of a context of {n_tokens} is {budget}: raise --kept-share."


@dataclass(frozen=True)
class Asked:
    """A question and one of its right answers, read behind it."""

    place: int
    question: Question
    right: tuple[int, ...]

    @property
    def ids(self) -> list[int]:
        """What is read behind the context."""
        return [*self.question.ids, *self.right[:-1]]


@dataclass(eq=False)
class Survival:
    """Watches which keys of the context each row's heads may read from one step on, mean over the heads of the layers that drop any."""

    step: int
    n_tokens: int
    by_layer: dict[int, Float[Tensor, "row key"]] = field(default_factory=dict)

    def __call__(self, layer: Layer, keep: Bool[Tensor, "row head step key"], scores: Tensor) -> None:
        """Takes one layer, once the step has been read."""
        if keep.shape[2] <= self.step:
            return
        self.by_layer[layer.prompt.layer] = keep[:, :, self.step, : self.n_tokens].float().mean(dim=1).cpu()

    def shares(self) -> Float[Tensor, "row key"]:
        """Returns the share of heads that read each key."""
        return torch.stack([self.by_layer[layer] for layer in sorted(self.by_layer)]).mean(dim=0)


def measure_kept(retention: Retention, samples: Sequence[Sample]) -> Frames:
    """Returns rows of `answers` and `kept`, with the column `number` for which sample. Each context is read once for all policies.

    A policy drops keys at the context's end, before any question is read, except those that choose anew for every query.
    """
    refused = _refused(retention.model, samples)
    answers, kept = [], []
    for numbers in _alike(retention.model, samples):
        n_tokens = len(samples[numbers[0]].ids)
        reasons = {one: refused or retention.refusal(one, n_tokens) for one in retention.conditions}
        for number in numbers:
            kept += _refused_rows(retention, samples[number], number, {one: why for one, why in reasons.items() if why})
        acting = [one for one, reason in reasons.items() if not reason]
        if not acting:
            continue
        for number, read in zip(numbers, _read(retention, samples, acting, numbers), strict=True):
            found = _measure_sample(retention, samples[number], read, acting, number)
            answers += found[0]
            kept += found[1]
    order = ["number", "question"]
    tables = {"answers": pd.DataFrame(answers), "kept": pd.DataFrame(kept)}
    return {
        name: rows.sort_values(order, kind="stable", ignore_index=True) for name, rows in tables.items() if len(rows)
    }


def _alike(model: LanguageModel, samples: Sequence[Sample]) -> Iterator[Sequence[int]]:
    """Yields numbers of samples whose contexts are of one length, as many as are read as one batch."""
    by_length: dict[int, list[int]] = {}
    for number, sample in enumerate(samples):
        by_length.setdefault(len(sample.ids), []).append(number)
    for n_tokens, numbers in by_length.items():
        size = max(1, model.batch_tokens // n_tokens)
        yield from (numbers[first : first + size] for first in range(0, len(numbers), size))


def _refused(model: LanguageModel, samples: Sequence[Sample]) -> str:
    """Why no policy can act on this model, in a sentence; nothing where they can."""
    try:
        model.needs("heads")
        check_sinks(model)
        evictable_layers(model, max(len(sample.ids) for sample in samples) + LONGEST_CONTINUATION)
    except UserError as error:
        return str(error)
    return ""


def _measure_sample(
    retention: Retention, sample: Sample, read: ReadPrompt, conditions: Sequence[KeptBy], number: int
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """The rows of `answers` and of `kept` of one context."""
    budget = retention.budget(len(sample.ids))
    settings = [Setting(build(one.policy), budget, first=FIRST_KEPT) for one in conditions]
    scored: dict[tuple[int, int], list[Answer]] = {}
    for part in _batches(retention.model, sample, len(settings)):
        for key, answer in _answer(retention.model, sample, read, settings, part):
            scored.setdefault(key, []).append(answer)
    answers, kept = [], []
    for (place, row), parts in sorted(scored.items()):
        question, condition = sample.questions[place], conditions[row]
        named = {
            "number": number, "question": place, "condition": condition.condition, "draw": condition.draw,
            "kind": question.facts.get("kind", ""),
        }  # fmt: skip
        n_values = len(question.right) + len(question.wrong)
        answers.append(
            named
            | {
                "first_margin_nats": parts[0].margin, "first_old_margin_nats": np.nan, "is_first_right": parts[0].margin > 0,
                "n_values": n_values, "chance": len(question.right) / n_values, "logp_nats": max(one.logp for one in parts),
                "margin_nats": np.nan, "rank": np.nan, "is_right": np.nan, "is_said": float(any(one.said for one in parts)),
            }
        )  # fmt: skip
        kept.append(named | _kept_row(sample, question, parts[0].shares, budget))
    return answers, kept


@dataclass(frozen=True)
class Answer:
    """What one row makes of one right answer."""

    margin: float
    """ln p of the likeliest right value's first token minus that of the likeliest other value's."""
    logp: float
    said: bool
    shares: Float[Tensor, " key"]
    """Share of heads that may read each key of the context when the answer is written."""


def _read(
    retention: Retention, samples: Sequence[Sample], conditions: Sequence[KeptBy], numbers: Sequence[int]
) -> list[ReadPrompt]:
    """The contexts of some samples, read as one batch."""
    texts = [samples[number].ids for number in numbers]
    seeds = [int(np.random.default_rng([*retention.seed, number]).integers(2**31)) for number in numbers]
    rotary = any(build(one.policy).needs_rotation for one in conditions)
    delimiters = [_delimiters(retention.model, ids) for ids in texts]
    return read_prompts(retention.model, texts, rotary=rotary, seeds=seeds, delimiters=delimiters)


def _delimiters(model: LanguageModel, ids: Sequence[int]) -> list[int]:
    """Positions of tokens without letters and digits."""
    kinds = token_classes([str(model.tokenizer.decode([token])) for token in ids])
    return [place for place, kind in enumerate(kinds) if kind == "delimiter"]


def _batches(model: LanguageModel, sample: Sample, n_settings: int) -> Iterator[Sequence[Asked]]:
    """Answers of one length behind questions of one length, as many as may have logits at once."""
    alike: dict[tuple[int, int], list[Asked]] = {}
    for place, question in enumerate(sample.questions):
        for right in question.right:
            alike.setdefault((len(question.ids), len(right)), []).append(Asked(place, question, right))
    vocabulary = model.hf.config.get_text_config(decoder=True).vocab_size
    for (n_question, n_answer), asked in alike.items():
        n_logits = 1 if n_answer == 1 else n_question + n_answer - 1
        size = max(1, LOGITS_AT_ONCE // (n_logits * vocabulary * n_settings))
        yield from (asked[first : first + size] for first in range(0, len(asked), size))


@torch.inference_mode()
def _answer(
    model: LanguageModel, sample: Sample, read: ReadPrompt, settings: Sequence[Setting], asked: Sequence[Asked]
) -> Iterator[tuple[tuple[int, int], Answer]]:
    """Yields (question, number of the policy) and its answer: one row for every policy behind every question."""
    n_answer = len(asked[0].right)
    watch = Survival(len(asked[0].question.ids) - 1, len(sample.ids))
    edit = PolicyEdit(model, read, [setting for _ in asked for setting in settings], watchers=[watch])
    ids = [one.ids for one in asked for _ in settings]
    with model.hooks.opened(edit):
        rows = read.prefix.fork(len(ids))
        logits = model.extend(rows, ids, logits="last" if n_answer == 1 else "all")
    shares = watch.shares()
    for place, one in enumerate(asked):
        for number in range(len(settings)):
            row = place * len(settings) + number
            nats = torch.log_softmax(logits[row, -n_answer:].float(), dim=-1)
            values = torch.tensor([value[0] for value in (*one.question.right, *one.question.wrong)])
            targets = torch.tensor(one.right, device=nats.device)
            logp = nats.gather(-1, targets[:, None]).sum()
            said = bool((nats.argmax(dim=-1) == targets).all())
            margin = margin_of(nats[0].cpu()[values], len(one.question.right))
            yield (one.place, number), Answer(float(margin), float(logp), said, shares[row])


# ---------------------------------------------------------------------- rows of `kept`


def _kept_row(sample: Sample, question: Question, shares: Float[Tensor, " key"], budget: int) -> dict[str, object]:
    pairs = [sample.pairs[number] for number in question.pairs]
    own = {place for pair in pairs for place in range(pair.key[0], pair.value[1])}
    values = {place for pair in pairs for place in range(*pair.value)}
    return {
        "context_tokens": len(sample.ids), "budget_keys": budget, "kept_share": float(shares.mean()),
        "pair_kept": float(shares[sorted(own)].mean()) if own else np.nan,
        "value_kept": float(shares[sorted(values)].mean()) if values else np.nan, "refusal": "",
    }  # fmt: skip


def _refused_rows(
    retention: Retention, sample: Sample, number: int, reasons: Mapping[KeptBy, str]
) -> list[dict[str, object]]:
    n = len(sample.ids)
    return [
        {
            "number": number, "question": place, "condition": one.condition, "draw": one.draw,
            "kind": question.facts.get("kind", ""), "context_tokens": n, "budget_keys": retention.budget(n),
            "kept_share": np.nan, "pair_kept": np.nan, "value_kept": np.nan, "refusal": reason,
        }
        for one, reason in reasons.items()
        for place, question in enumerate(sample.questions)
    ]  # fmt: skip
