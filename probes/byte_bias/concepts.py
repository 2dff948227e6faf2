"""What the state at the first token of a name already holds of the tokens to come (Chen et al. 2025, arXiv:2506.07833).

Concept-aware fine-tuning starts from the premise that models do not hold the pieces of a name as one thing. A "future lens" asks the
frozen model: a linear map from the state at token t to the state that predicts token t + k, fitted on some texts, is read out by the
model's own head on others. Beside names stand words of several pieces and free runs of words, to be compared at equal frequency.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import ArgumentError, UserError
from interp.models.language.model import LanguageModel
from interp.models.lens import LogitLens
from interp.models.tokens.encoding import beginning, encode_piece
from interp.tables import empty
from probes.byte_bias.settings import Settings
from probes.byte_bias.tables import Concepts
from probes.byte_bias.words import LETTERS, read_texts

OFFSETS = (1, 2)
"""How many tokens ahead is asked."""
MAPS = ("linear", "shuffled")
"""shuffled: fitted to the states of other places, so that it can learn no more than which tokens are frequent."""
RIDGE = 1e-2
"""Penalty of the maps, as a share of the mean square of a state's entry."""
LONGEST = 4
"""Words of a name or a free run, at most."""
FREE_STEP = 3
"""Of free runs, which are many, every third one is asked."""


@dataclass(frozen=True)
class Span:
    """A name, a word of several pieces or a free run of words, of one token each: its first token and its number of tokens."""

    kind: str
    words: tuple[str, ...]
    first: int
    n_tokens: int

    def text_up_to(self, offset: int) -> str:
        """Returns what is counted elsewhere: the words of a free run up to the token that is asked for, else all."""
        return " ".join(self.words[: offset + 1] if self.kind == "free" else self.words)


@dataclass(frozen=True)
class Reading:
    """A text's tokens, its spans, and its states after some layers, from its own first token on."""

    text_id: int
    ids: tuple[int, ...]
    spans: tuple[Span, ...]
    states: Float[Tensor, "depth token residual"]


def spans_of(text: str, offsets: Sequence[tuple[int, int]]) -> Iterator[Span]:
    """Yields the spans of a text whose tokens stand at `offsets` (characters [start, end)), none within another.

    A name is a run of capitalised words that does not begin a sentence; a free run has words of lower case, of one token each.
    """
    starts, ends = [start for start, _ in offsets], [end for _, end in offsets]

    def tokens(begin: int, end: int) -> tuple[int, int] | None:
        first, last = bisect_left(starts, begin - 1), bisect_left(starts, end)
        apart = first == 0 or ends[first - 1] < begin
        return (first, last) if apart and first < last < len(starts) and ends[last - 1] == end else None

    run: list[tuple[str, int, int]] = []
    for word, begin, end in [*_words(text), ("", len(text) + 2, len(text) + 2)]:
        place = tokens(begin, end) if word else None
        kind = _kind(word, place)
        goes_on = (
            run and run[0][0] == kind and begin == run[-1][2] + 1 and text[begin - 1] == " " and len(run) < LONGEST
        )
        if run and not (goes_on and kind != "word"):
            yield from _finished(text, run, tokens)
            run = []
        if kind:
            run.append((kind, begin, end))


def _words(text: str) -> Iterator[tuple[str, int, int]]:
    return ((match[0], *match.span()) for match in LETTERS.finditer(text))


def _kind(word: str, place: tuple[int, int] | None) -> str:
    if not word or place is None:
        return ""
    if word[0].isupper():
        return "name"
    if not word.islower():
        return ""
    return "free" if place[1] - place[0] == 1 else "word"


def _finished(text: str, run: Sequence[tuple[str, int, int]], tokens: Any) -> Iterator[Span]:
    kind, begin, end = run[0][0], run[0][1], run[-1][2]
    place = tokens(begin, end)
    before = text[:begin].rstrip(" ,")[-1:]
    if place and place[1] - place[0] > 1 and (kind != "name" or before.islower()):
        words = tuple(text[first:last] for _, first, last in run)
        yield Span(kind, words, place[0], place[1] - place[0])


@torch.inference_mode()
def measure_concepts(model: LanguageModel, settings: Settings) -> pd.DataFrame:
    """Returns the table `concepts`: a row for each span of the held-out texts, offset, depth and map; none where no lens reads the model.

    Raises ArgumentError where the texts hold no name and free run to compare.
    """
    try:
        lens = LogitLens(model)
    except UserError:  # a warning of the run says so
        return empty(Concepts).drop(columns="model")
    depths = np.unique(np.linspace(0, lens.n_depths - 1, settings.concept_depths).round().astype(int)).tolist()
    texts, chosen = read_texts(settings, settings.concept_articles)
    read = [_read(lens, texts[place], place, settings.passage_tokens, depths) for place in chosen]
    fitted, held_out = read[::2], read[1::2]
    if not {"name", "free"} <= {span.kind for one in held_out for span in one.spans}:
        raise ArgumentError(
            "The prose has no names of several tokens and free runs to compare them with: give another --corpus, or "
            "--concept-articles 0 to leave names out."
        )
    counts = counts_of(
        {span.text_up_to(offset) for one in held_out for span in one.spans for offset in OFFSETS},
        (texts[place] for place in range(len(texts)) if place not in set(chosen)),
    )
    found = [_rows(lens, fitted, held_out, depths, row, offset) for row in range(len(depths)) for offset in OFFSETS]
    table = pd.concat(found, ignore_index=True)
    return table.assign(count_elsewhere=[counts[text] for text in table["counted"]]).drop(columns="counted")


def _read(lens: LogitLens, text: str, text_id: int, n_tokens: int, depths: Sequence[int]) -> Reading:
    """The beginning of a text. The state at its own first token is left out: in many models it is like no other."""
    tokenizer: Any = lens.model.tokenizer
    text = text[: 16 * n_tokens]
    piece = encode_piece(tokenizer, text, first=True)
    lead, ids = beginning(tokenizer, "always"), tuple(piece.ids[:n_tokens])
    spans = _thinned([span for span in spans_of(text, piece.offsets[: len(ids)]) if span.first > 0])
    states = lens.states(torch.tensor([[*lead, *ids]]))[list(depths), 0, len(lead) :]
    return Reading(text_id, ids, spans, states.float())


def _thinned(spans: Sequence[Span]) -> tuple[Span, ...]:
    free = [span for span in spans if span.kind == "free"][::FREE_STEP]
    return tuple(span for span in spans if span.kind != "free" or span in free)


def counts_of(wanted: set[str], texts: Iterator[str]) -> Counter[str]:
    """Returns how often each run of up to four words stands in some texts, blanks alone between the words."""
    found: Counter[str] = Counter()
    longest = max((text.count(" ") + 1 for text in wanted), default=0)
    beginnings = {text.split(" ")[0] for text in wanted}
    for text in texts:
        words = list(_words(text))
        for first, (word, begin, _) in enumerate(words):
            if word not in beginnings:
                continue
            for last in range(first, min(first + longest, len(words))):
                if last > first and text[words[last - 1][2] : words[last][1]] != " ":
                    break
                run = text[begin : words[last][2]]
                if run in wanted:
                    found[run] += 1
    return found


def _rows(
    lens: LogitLens,
    fitted: Sequence[Reading],
    held_out: Sequence[Reading],
    depths: Sequence[int],
    row: int,
    offset: int,
) -> pd.DataFrame:
    """Spans of the held-out texts at one depth and offset, by both maps."""
    asked = [(one, span) for one in held_out for span in one.spans if span.n_tokens > offset]
    x = torch.cat([one.states[row, 1 : len(one.ids) - offset + 1] for one in fitted])
    y = torch.cat([one.states[-1, offset : len(one.ids)] for one in fitted])
    states = torch.stack([one.states[row, span.first] for one, span in asked])
    truth = torch.tensor([one.ids[span.first + offset] for one, span in asked])
    kinds = np.array([span.kind for _, span in asked])
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    frames = []
    for name, target in zip(MAPS, (y, y[order.to(y.device)]), strict=True):
        ahead = mapped(x, target, states).to(lens.model.hf.dtype)
        logits = lens.logits(ahead, lens.n_depths - 1).float().cpu()
        of_truth = logits.gather(1, truth[:, None])[:, 0]
        frames.append(
            pd.DataFrame(
                {
                    "text_id": [one.text_id for one, _ in asked], "span": [" ".join(span.words) for _, span in asked],
                    "kind": kinds, "offset": offset, "depth": depths[row], "map": name,
                    "counted": [span.text_up_to(offset) for _, span in asked],
                    "is_likeliest": (logits.argmax(dim=1) == truth).numpy(),
                    "above_share": above_share(logits[:, truth], kinds),
                    "nats": (torch.logsumexp(logits, dim=1) - of_truth).numpy(),
                }
            )
        )  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def mapped(
    x: Float[Tensor, "place residual"], y: Float[Tensor, "place residual"], states: Float[Tensor, "span residual"]
) -> Float[Tensor, "span residual"]:
    """Returns the ridge regression of y on x, fitted to places, at some states."""
    x, y, states = x.double(), y.double(), states.double()
    centred = x - x.mean(dim=0)
    gram = centred.T @ centred
    gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    weights = torch.linalg.solve(gram, centred.T @ (y - y.mean(dim=0)))
    return ((states - x.mean(dim=0)) @ weights + y.mean(dim=0)).float()


def above_share(logits: Float[Tensor, "span other"], kinds: np.ndarray) -> Float[np.ndarray, " span"]:
    """Returns the share of the other spans of a span's kind whose true token gets a lower logit than its own, equals counting half.

    `logits[i, j]` is the logit of span j's true token at span i. 0.5 is chance, also for a map that knows frequencies alone.
    """
    values, found = logits.numpy(), np.full(len(logits), np.nan)
    for kind in np.unique(kinds):
        mine = np.flatnonzero(kinds == kind)
        if len(mine) > 1:
            among = values[np.ix_(mine, mine)]
            own = among.diagonal()[:, None]
            found[mine] = ((among < own).sum(axis=1) + ((among == own).sum(axis=1) - 1) / 2) / (len(mine) - 1)
    return found
