"""Questions with known answers: first against later tokens of a fact, three ways to read states out, and a readout of being right."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import ArgumentError
from interp.kept import kept_while_unchanged
from interp.models.language.model import LanguageModel
from interp.models.lens.lens import LogitLens, read_through
from interp.models.tokens.encoding import beginning, encode_piece
from interp.stimuli.prose import news_articles, read_folder
from probes.prediction_depth.materials import Frequencies, frequencies
from probes.prediction_depth.measure import lenses
from probes.prediction_depth.scores import readout_scores, settle_depths, shuffled_within
from probes.prediction_depth.settings import Settings

OWN_FACTS = Path(__file__).with_name("facts.toml")
PLACES_AT_ONCE = 64
"""Places that are read out together."""


@dataclass(frozen=True)
class Question:
    """A cue with its subject, and the answer that goes on from it."""

    id: str
    relation: str
    subject: str
    cue: str
    answer: str


@dataclass(frozen=True, eq=False)
class Asked:
    """A question as tokens, and what the model says at the places before each token of the answer."""

    question: Question
    ids: list[int]
    answer: list[int]
    states: Float[Tensor, "depth place residual"]
    """Of the first token, and of the places before the answer's tokens: [depth, 1 + token, residual]."""
    log_p: Float[Tensor, "token vocabulary"]

    @property
    def tops(self) -> list[int]:
        """The likeliest tokens where the answer's stand."""
        return self.log_p.argmax(dim=-1).tolist()

    @property
    def is_right(self) -> bool:
        """Whether greedy decoding would write the answer."""
        return self.tops == self.answer


def read_questions(settings: Settings) -> tuple[Question, ...]:
    """Returns the questions, relation by relation.

    Raises ArgumentError for a file that holds something else.
    """
    found = _read(settings.facts or OWN_FACTS)
    limit = settings.facts_per_relation
    return tuple(one for one in found if int(one.id.rpartition("-")[2]) < limit)


@kept_while_unchanged(lambda path: (path,))
def _read(path: Path) -> tuple[Question, ...]:
    try:
        tables, found = tomllib.loads(path.read_text(encoding="utf-8-sig")), []
        for relation, table in tables.items():
            if set(table) != {"cue", "facts"} or not isinstance(table["cue"], str):
                raise ValueError(f"{relation} needs a cue and facts, both texts, and nothing else")
            cue = table["cue"]
            for number, fact in enumerate(" ".join(table["facts"].split()).split("|")):
                subject, _, answer = (part.strip() for part in fact.partition("="))
                if not subject or not answer or "{}" not in cue:
                    raise ValueError(f"{relation}: {fact.strip()!r}")
                found.append(Question(f"{relation}-{number}", relation, subject, cue.replace("{}", subject), answer))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ArgumentError(
            f'{path} is not a file of questions ({error}): write [relation], cue = "… {{}} …" and facts = "subject = answer | …".'
        ) from error
    if len(found) < 2:
        raise ArgumentError(f"{path} holds fewer than two questions: add some.")
    return tuple(found)


@torch.inference_mode()
def measure_questions(settings: Settings, model: LanguageModel) -> dict[str, pd.DataFrame]:
    """Returns the tables of questions: answer_tokens, readouts, answers and readout_depths."""
    by_name = lenses(settings, model)
    asked = [_ask(settings, by_name["logit"], one) for one in read_questions(settings)]
    readouts = [row for name, lens in by_name.items() for row in _by_lens(name, lens, asked)]
    readouts += _through(settings, by_name["logit"], asked)
    best = by_name.get("tuned", by_name["logit"])
    answers, depths = _answers(settings, best, asked)
    tokens = _answer_tokens(by_name, asked, frequencies(settings, model))
    return {
        "answer_tokens": pd.DataFrame(tokens), "readouts": pd.DataFrame(readouts),
        "answers": pd.DataFrame(answers), "readout_depths": pd.DataFrame(depths),
    }  # fmt: skip


def _ask(settings: Settings, lens: LogitLens, question: Question) -> Asked:
    tokenizer: Any = lens.model.tokenizer
    cue = [*beginning(tokenizer, settings.bos), *encode_piece(tokenizer, question.cue, first=True).ids]
    answer = encode_piece(tokenizer, f" {question.answer}").ids
    if not answer:
        raise ArgumentError(f"The tokenizer cannot spell {question.answer!r}: leave it out of the questions.")
    ids = [*cue, *answer[:-1]]
    states = lens.states(torch.tensor([ids]))[:, 0]
    kept = torch.cat([states[:, :1], states[:, len(cue) - 1 :]], dim=1)
    log_p = torch.log_softmax(lens.logits(kept[-1, 1:], len(kept) - 1), dim=-1)
    return Asked(question, cue, answer, kept, log_p)


def _answer_tokens(by_name: dict[str, LogitLens], asked: Sequence[Asked], counts: Frequencies) -> list[dict[str, Any]]:
    rows, per_million = [], counts.log10_per_million
    settled_by = {name: _settled(lens, asked) for name, lens in by_name.items()}
    for number, one in enumerate(asked):
        tops = one.tops
        surprisal = -one.log_p.gather(-1, torch.tensor(one.answer, device=one.log_p.device)[:, None])[:, 0]
        for name, settled_all in settled_by.items():
            settled = settled_all[number]
            rows += [
                {
                    "question_id": one.question.id, "relation": one.question.relation, "lens": name, "place": place,
                    "n_answer_tokens": len(one.answer), "token_id": token, "log10_per_million": float(per_million[token]),
                    "surprisal_nats": float(surprisal[place]), "is_right": tops[place] == token,
                    "settle_depth": int(settled[place]),
                }
                for place, token in enumerate(one.answer)
            ]  # fmt: skip
    return rows


def _settled(lens: LogitLens, asked: Sequence[Asked]) -> list[Int[np.ndarray, " token"]]:
    """Where the likeliest tokens at every question's places settle. Places are read out together: the head is read once for many."""
    places = torch.cat([one.states[:, 1:] for one in asked], dim=1)
    parts = places.split(PLACES_AT_ONCE, dim=1)
    tops = [torch.stack([lens.logits(state, depth).argmax(-1) for depth, state in enumerate(part)]) for part in parts]
    settled = settle_depths(torch.cat(tops, dim=1).cpu().numpy())
    return np.split(settled, np.cumsum([len(one.answer) for one in asked])[:-1])


# ---------------------------------------------------------------------- ways to read a state out


def _rows(way: str, depth: int, asked: Sequence[Asked], tops: Sequence[int]) -> list[dict[str, Any]]:
    """One row a question; chance is how often another question's state says what this one's last depth says."""
    half = len(asked) // 2
    return [
        {
            "question_id": one.question.id, "relation": one.question.relation, "way": way, "depth": depth,
            "agrees": top == one.tops[0], "agrees_with_another": top == asked[place - half].tops[0],
            "is_right": top == one.answer[0],
        }
        for place, (one, top) in enumerate(zip(asked, tops, strict=True))
    ]  # fmt: skip


def _by_lens(name: str, lens: LogitLens, asked: Sequence[Asked]) -> list[dict[str, Any]]:
    states = torch.stack([one.states[:, 1] for one in asked], dim=1)
    return [
        row
        for depth, state in enumerate(states)
        for row in _rows(name, depth, asked, lens.logits(state, depth).argmax(dim=-1).tolist())
    ]


def _through(settings: Settings, lens: LogitLens, asked: Sequence[Asked]) -> list[dict[str, Any]]:
    starts, states = (torch.stack([one.states[:, place] for one in asked], dim=1) for place in (0, 1))
    ids = torch.tensor([[one.ids[0], one.ids[-1]] for one in asked])
    rows = []
    for depth in range(0, lens.n_depths, settings.read_through_every):
        logits = read_through(lens, starts[depth], states[depth], depth, ids)
        rows += _rows("upper layers", depth, asked, logits.argmax(dim=-1).tolist())
    return rows


# ---------------------------------------------------------------------- will it be right?


def _answers(
    settings: Settings, lens: LogitLens, asked: Sequence[Asked]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What each signal says of each question, all known before the first token of the answer is written."""
    right = np.array([one.is_right for one in asked])
    groups = [one.question.relation for one in asked]
    stacked = torch.stack([one.states[:, 1] for one in asked], dim=1)
    states = stacked.float().cpu().numpy()
    by_depth, chosen, depth_of = readout_scores(states, right, groups, settings.seed)
    _, null, _ = readout_scores(states, shuffled_within(right, groups, settings.seed), groups, settings.seed)
    tops = torch.stack([lens.logits(state, depth).argmax(-1) for depth, state in enumerate(stacked)]).cpu().numpy()
    first = torch.stack([one.log_p[0] for one in asked])
    signals = {
        "readout": chosen,
        "readout, shuffled labels": null,
        "probability": first.max(dim=-1).values.exp().cpu().numpy(),
        "entropy": -torch.special.entr(first.exp()).sum(dim=-1).cpu().numpy(),
        "settle depth": -settle_depths(tops).astype(float),
        "popularity": popularity(settings, [one.question.subject for one in asked]),
    }
    answers = [
        {
            "question_id": one.question.id, "relation": one.question.relation, "question": one.question.cue,
            "answer": one.question.answer, "signal": signal, "score": float(scores[place]), "is_right": one.is_right,
            "readout_depth": int(depth_of[place]),
        }
        for signal, scores in signals.items() for place, one in enumerate(asked)
    ]  # fmt: skip
    depths = [
        {
            "question_id": one.question.id, "relation": one.question.relation, "depth": depth,
            "score": float(scores[place]), "is_right": one.is_right,
        }
        for depth, scores in enumerate(by_depth) for place, one in enumerate(asked)
    ]  # fmt: skip
    return answers, depths


def popularity(settings: Settings, subjects: Sequence[str]) -> Float[np.ndarray, " subject"]:
    """Returns log(1 + n), n the number of texts that name each subject."""
    texts = news_articles() if settings.texts is None else read_folder(settings.texts)
    return np.log1p([sum(subject in text for text in texts) for subject in subjects])
