"""Token Recycling: an adjacency matrix of the candidates last seen behind each token, and drafts drawn from it.

Offline: what a model would write, or what a text says, is replayed against each kind of draft. Live: `write_recycled` writes greedy text
by reading a chain of drafts at once, and must write what plain greedy decoding writes.
"""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import pandas as pd
import torch

from interp.models.language.model import LanguageModel
from probes.prediction_depth.materials import frequencies, read_ids
from probes.prediction_depth.settings import PROMPT_TOKENS, Settings

WIDTH = 8
"""Candidates kept behind each token."""
LEVELS = (8, 21, 25, 15, 8, 3)
"""Nodes of the draft tree by level: 80 nodes, as many at each level as in the released template."""
LOOKUP_TOKENS, LONGEST_MATCH = 10, 3
"""Prompt lookup: tokens copied from behind the last place where the latest tokens stood, and how many of these are matched."""
CHAIN = 4
"""Drafts that are read at once when text is written live."""
DRAFTERS = ("recycled", "bigram", "unigram", "prompt lookup")
Path = tuple[int, ...]


@cache
def draft_tree() -> frozenset[Path]:
    """Returns the nodes as paths of ranks: at each level those below the last one's whose product of (rank + 1) is least."""
    nodes: list[Path] = []
    above: list[Path] = [()]
    for n in LEVELS:
        below = [(*path, rank) for path in above for rank in range(WIDTH)]
        above = sorted(below, key=lambda path: (_cost(path), path))[:n]
        nodes += above
    return frozenset(nodes)


def _cost(path: Path) -> int:
    product = 1
    for rank in path:
        product *= rank + 1
    return product


class Drafter:
    """Candidates behind each token, best first, as they were known at some place of a text."""

    def __init__(self, kind: str, common: Sequence[int]) -> None:
        self.kind = kind
        self.common = list(common)
        self.candidates: dict[int, list[int]] = {}
        self.written: dict[int, int] = {}
        """Place at which each row was written last."""
        self.followers: dict[int, Counter[int]] = {}
        self.seen: list[int] = []

    def row(self, token: int) -> list[int]:
        """Returns the candidates behind a token."""
        return self.common if self.kind == "unigram" else self.candidates.get(token, [])

    def learn(self, place: int, token: int, candidates: Sequence[int], following: int | None) -> None:
        """Takes note of what the model holds likeliest behind the token at a place, and of what does follow it, if that is known."""
        self.seen.append(token)
        if self.kind == "recycled":
            self.candidates[token], self.written[token] = list(candidates), place
        if self.kind == "bigram" and following is not None:
            counted = self.followers.setdefault(token, Counter())
            counted[following] += 1
            self.candidates[token] = [one for one, _ in counted.most_common(WIDTH)]
            self.written[token] = place

    def accepted(self, text: Sequence[int], place: int) -> int:
        """Returns how many tokens behind `place` the drafts get right."""
        if self.kind == "prompt lookup":
            return _agreeing(self.copied(text[: place + 1]), text[place + 1 :])
        path, token, n = (), text[place], 0
        for wanted in text[place + 1 :]:
            row = self.row(token)
            path = (*path, row.index(wanted)) if wanted in row else ()
            if path not in draft_tree():
                break
            token, n = wanted, n + 1
        return n

    def copied(self, text: Sequence[int]) -> list[int]:
        """Returns what stood behind the latest earlier place of the text's last tokens, the longest match first."""
        for length in range(min(LONGEST_MATCH, len(text) - 1), 0, -1):
            end = list(text[-length:])
            for start in range(len(text) - length - 1, -1, -1):
                if list(text[start : start + length]) == end:
                    return list(text[start + length : start + length + LOOKUP_TOKENS])
        return []


def _agreeing(drafts: Sequence[int], text: Sequence[int]) -> int:
    same = [draft == wanted for draft, wanted in zip(drafts, text, strict=False)]
    return same.index(False) if False in same else len(same)


def replay(
    kind: str, text: Sequence[int], candidates: Sequence[Sequence[int]], n_prompt: int, common: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Yields one row for each pass of the model: how many drafts were accepted, beside the token that a pass gives anyway.

    `candidates` are the model's likeliest tokens behind each place. Rejected drafts teach the matrix nothing here, though they would.
    """
    drafter, place, step = Drafter(kind, common), n_prompt - 1, 0
    for known in range(place):
        drafter.learn(known, text[known], candidates[known], text[known + 1])
    while place + 1 < len(text):
        n = drafter.accepted(text, place)
        yield {"step": step, "position": place, "accepted": n}
        for known in range(place, min(place + n + 1, len(text))):
            drafter.learn(known, text[known], candidates[known], text[known + 1] if known + 1 < len(text) else None)
        place, step = place + n + 1, step + 1


def recurrences(
    kind: str, text: Sequence[int], candidates: Sequence[Sequence[int]], n_prompt: int, common: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Yields one row for each token behind the prompt: its rank among the candidates behind the token before it (-1: none of them), and
    how many tokens ago these were written (-1: never).
    """
    drafter = Drafter(kind, common)
    for place, (token, following) in enumerate(pairwise(text)):
        if place >= n_prompt - 1:
            row = drafter.row(token)
            age = place - drafter.written[token] if token in drafter.written else -1
            yield {"position": place, "rank": row.index(following) if following in row else -1, "age_tokens": age}
        drafter.learn(place, token, candidates[place], following)


@torch.inference_mode()
def measure_drafts(settings: Settings, model: LanguageModel, number: int) -> dict[str, pd.DataFrame]:
    """Returns the tables `drafts`, `recurrences` and `written` of one text, whose beginning is the prompt."""
    ids = read_ids(settings, model, number, PROMPT_TOKENS + settings.draft_tokens)
    prompt = ids[:PROMPT_TOKENS]
    plain = write_plain(model, prompt, settings.draft_tokens)
    recycled, n_passes = write_recycled(model, prompt, settings.draft_tokens)
    common = frequencies(settings, model).commonest(WIDTH)
    named = {"text_id": f"decode-{number:03d}"}
    drafts, hits = [], []
    for domain, text in (("its own text", [*prompt, *plain]), ("news", ids)):
        logits = model.extend(model.rows(1, len(text)), [text], logits="all")[0]
        candidates = logits.topk(WIDTH, dim=-1).indices.tolist()
        for kind in DRAFTERS:
            told = {**named, "domain": domain, "drafter": kind}
            drafts += [{**told, **row} for row in replay(kind, text, candidates, PROMPT_TOKENS, common)]
            if kind != "prompt lookup":
                hits += [{**told, **row} for row in recurrences(kind, text, candidates, PROMPT_TOKENS, common)]
    written = {**named, "is_equal": recycled == plain, "n_tokens": len(plain), "n_passes": n_passes}
    return {"drafts": pd.DataFrame(drafts), "recurrences": pd.DataFrame(hits), "written": pd.DataFrame([written])}


def write_plain(model: LanguageModel, prompt: Sequence[int], n_tokens: int) -> list[int]:
    """Returns the greedy continuation, one token a pass."""
    rows, step, written = model.rows(1, len(prompt) + n_tokens), list(prompt), []
    while len(written) < n_tokens:
        step = [int(model.extend(rows, [step])[0, -1].argmax())]
        written += step
    return written


def write_recycled(
    model: LanguageModel, prompt: Sequence[int], n_tokens: int, chain: int = CHAIN
) -> tuple[list[int], int]:
    """Returns the greedy continuation and the number of passes after the prompt's: each reads the last token and a chain of drafts.

    The chain follows the best candidate behind each token. What is not what the model writes is forgotten.
    """
    rows, matrix = model.rows(1, len(prompt) + n_tokens + chain), {}
    logits = model.extend(rows, [list(prompt)], logits="all")[0]
    matrix.update(zip(prompt, logits.argmax(dim=-1).tolist(), strict=True))
    written, n_passes = [matrix[prompt[-1]]], 0
    while len(written) < n_tokens:
        drafts: deque[int] = deque([written[-1]])
        while len(drafts) <= min(chain, n_tokens - len(written) - 1) and drafts[-1] in matrix:
            drafts.append(matrix[drafts[-1]])
        before = rows.lengths[0]
        best = model.extend(rows, [list(drafts)], logits="all")[0].argmax(dim=-1).tolist()
        n_right = _agreeing(list(drafts)[1:], best)
        matrix.update(zip(drafts, best, strict=True))
        rows.crop(before + 1 + n_right)
        written += best[: n_right + 1]
        n_passes += 1
    return written[:n_tokens], n_passes
