"""Prose: passwords hidden in it, and two of its parts, of which one came first."""

from interp.errors import ArgumentError
from interp.stimuli.haystack import build_haystack
from interp.stimuli.prose import news_articles
from interp.stimuli.sentences import sentences
from probes.context_recall.draft import Draft, Mark
from probes.context_recall.tasks.task import task

SEGMENT_WORDS = (8, 24)
"""Words of the sentences that are asked for."""
NEEDLE_TOKENS = 12
"""Room for a needle."""
TRIES = 1000
"""Articles that are looked at in search of an excerpt."""


@task({"tokens": 256}, {"tokens": 256, "form": "synonym"})
def passkey(draft: Draft, tokens: int = 256, needles: int = 4, form: str = "same") -> None:
    """Sentences with passwords at even depths of news prose, one of which is asked for (RULER's several keys). Chance is 1 / needles.

    With the form "synonym" the question names the key by another word, so that it shares no word with the needle but the frame.
    """
    synonyms = draft.option("form", form, {"same": {}, "synonym": draft.frames["synonyms"]})
    known = list(synonyms)
    if known and needles > len(known):
        raise ArgumentError(
            f"There are {len(known)} words with synonyms in --frames, and {needles} needles need as many: lower needles."
        )
    values = draft.values(needles)
    chosen = [known[number] for number in draft.choose(len(known), needles)] if known else draft.keys(needles)
    room = tokens - NEEDLE_TOKENS * needles
    if room < 1:
        raise ArgumentError(
            f"{needles} needles do not fit into {tokens} tokens: use {NEEDLE_TOKENS * needles + 1} or more."
        )
    key = str(draft.generator.integers(2**31))
    haystack = build_haystack(draft.tokenizer, news_articles(), room, seed=0, key=key)
    places = [haystack.boundary_before((2 * n + 1) * room // (2 * needles)) for n in range(needles)]
    for start, end, word, value in zip([0, *places], places, chosen, values, strict=False):
        draft.put_ids(haystack.ids[start:end])
        draft.pair(draft.frames["needle"], word, value)
    draft.put_ids(haystack.ids[places[-1] : room])
    number = draft.choose(needles, 1)[0]
    asked = synonyms.get(chosen[number], chosen[number])
    draft.ask(draft.frames["needle_question"], [number], words={"key": asked}, kind=form)


@task(*({"text": text} for text in ("excerpt", "none")), floor=True, causes=False, share=0.5)
def order(draft: Draft, text: str = "excerpt", words: int = 200) -> None:
    """Two sentences of an excerpt, of which one came first (SORT), in four presentations: which is shown first, and labelled A.

    Chance is 1/2, and a bias for a label or a place cancels in the mean of the four. Texts: the excerpt, nothing, its sentences in
    random order, or another excerpt.
    """
    own, other = (excerpt(draft, words) for _ in range(2))
    long = [n for n, one in enumerate(own) if SEGMENT_WORDS[0] <= len(one.split()) <= SEGMENT_WORDS[1]]
    first, second = sorted(draft.choose(len(long), 2))
    segments = own[long[first]], own[long[second]]
    choices = {"excerpt": range(len(own)), "none": (), "shuffled": draft.choose(len(own), len(own)), "other": ()}
    shown = [own[n] for n in draft.option("text", text, choices)] if text != "other" else other
    marks: dict[str, Mark] = {}
    draft.put(draft.frames["excerpt_lead" if shown else "no_excerpt"])
    for sentence in shown:
        marks[sentence] = draft.put(f"{sentence} ")
    pairs = [draft.bind(marks[one], marks[one]) for one in segments if one in marks]
    distance = sum(len(one.split()) for one in own[long[first] : long[second]])
    for label in "AB":
        for shows_right_first in (True, False):
            parts = [(label, segments[0]), ("BA"["AB".index(label)], segments[1])]
            lines = [draft.frames["part"].format(label=name, segment=one) for name, one in parts]
            one, two = lines if shows_right_first else lines[::-1]
            asked = draft.frames["which_first"].format(first=one, second=two)
            draft.ask_label(
                asked,
                f" {label}",
                f" {parts[1][0]}",
                pairs,
                distance_words=distance,
                kind=f"{label}{shows_right_first:d}",
            )


def excerpt(draft: Draft, words: int) -> list[str]:
    """Returns whole sentences of one article, of about so many words, of which two or more can be asked for."""
    articles = news_articles()
    for _ in range(TRIES):
        found: list[str] = []
        for sentence in sentences(articles[int(draft.generator.integers(len(articles)))]):
            found.append(sentence)
            if sum(len(one.split()) for one in found) >= words:
                break
        long = [one for one in found if SEGMENT_WORDS[0] <= len(one.split()) <= SEGMENT_WORDS[1]]
        if len(long) > 2 and len(set(found)) == len(found) and sum(len(one.split()) for one in found) >= words:
            return found
    raise ArgumentError(f"No article has whole sentences of {words} words: lower the option words.")
