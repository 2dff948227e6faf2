"""What the command `transplant` does: loads, measures, writes and says."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from interp.errors import ArgumentError
from interp.models.loading.language import load, load_tokenizer
from interp.models.transplant.folder import check_place
from interp.models.transplant.rules import Rule
from interp.models.transplant.transplant import RECORD, check_texts, save, transplant
from interp.stimuli.prose import news_articles, read_folder

PASSAGE_CHARACTERS = 600
_ARTICLES = 400
"""News articles that passages are taken from, one of each."""


def transplant_to(
    model: str,
    tokenizer: str,
    out: Path,
    *,
    rule: Rule | Literal["best"],
    texts: Path | None,
    n_passages: int,
    device: str,
    dtype: str,
    say: Callable[[str], None],
) -> None:
    """Writes a model with another tokenizer's vocabulary, and says what it costs.

    Raises UserError, before anything is loaded where it can.
    """
    if n_passages < 2:
        raise ArgumentError(f"--passages must be at least 2, not {n_passages}: one passage has no interval.")
    check_place(out)
    found = [
        part for text in (read_folder(texts) if texts else news_articles()[:_ARTICLES]) for part in _parts(text, texts)
    ]
    choosing, held_out = check_texts(found, max(2, n_passages // 3), n_passages)
    theirs = load_tokenizer(tokenizer)
    loaded = load(model, device=device, dtype=dtype)
    done = transplant(loaded, theirs, rule=rule, choosing=choosing, held_out=held_out, say=say)
    save(done, out, tokenizer_name=tokenizer)
    before, after, more = done.before.per_byte(), done.after.per_byte(), done.after.per_byte(minus=done.before)
    say(f"rule: {done.rule}")
    say(f"bits per byte before: {before.value:.3f} [{before.ci_low:.3f}, {before.ci_high:.3f}] ({n_passages} passages)")
    say(f"bits per byte after:  {after.value:.3f} [{after.ci_low:.3f}, {after.ci_high:.3f}]")
    say(f"difference:           {more.value:+.3f} [{more.ci_low:+.3f}, {more.ci_high:+.3f}]")
    say(f"model: {out} ({RECORD} says how it was made)")


def _parts(text: str, folder: Path | None) -> Iterator[str]:
    """The first passage of an article, or all of a text of one's own, cut at blanks where there are any."""
    ends = range(0, len(text) if folder else 1, PASSAGE_CHARACTERS)
    for start in ends:
        part = text[start : start + PASSAGE_CHARACTERS]
        kept = part.rpartition(" ")[0] or part
        kept = kept.partition(" ")[2] or kept if start else kept
        if len(kept) > PASSAGE_CHARACTERS // 2:
            yield kept
