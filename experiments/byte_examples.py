"""The two measured examples of docs/results/byte_bias.md: `fill` across a cut, and a mixture of two models (`ensemble`)."""

import argparse
import sys
from typing import Any

import numpy as np
import pandas as pd

from interp.estimates import estimates
from interp.models import load
from interp.models.bytes import ByteEnsemble, ByteModel, fill
from interp.models.language.model import LanguageModel
from interp.models.tokens.encoding import beginning, encode_piece
from interp.stimuli.prose import news_articles
from probes.byte_bias.settings import Settings

WIDTH = 2
"""Candidates kept at every length, by bytes and by tokens alike."""
N_ITEMS = 13
WEIGHTS = (1.0, 0.95, 0.9, 0.8, 0.5, 0.0)
"""Of the first model."""
TOLERANCE = 0.01


def gaps(seed: int = 0) -> list[tuple[str, str, str]]:
    """Returns what stands before a gap, in it, and behind it: gaps of 3 to 6 letters from inside a word of prose to its end."""
    random = np.random.default_rng(seed)
    articles, found = news_articles(), []
    for place in random.permutation(len(articles))[:N_ITEMS]:
        words = articles[place].split(" ")
        long = [
            at for at, word in enumerate(words) if 12 < at < 40 and word.isalpha() and word.islower() and len(word) >= 6
        ]
        if not long:
            continue
        at = int(random.choice(long))
        kept = len(words[at]) - int(random.integers(3, min(6, len(words[at]) - 2) + 1))
        before, after = " ".join([*words[at - 12 : at], words[at][:kept]]), " " + " ".join(words[at + 1 : at + 4])
        found.append((before, words[at][kept:], after))
    return found


def fill_as_typed(model: LanguageModel, before: str, after: str, n_bytes: int) -> list[str]:
    """Returns middles as a script of an afternoon finds them: tokens behind those of the prompt, then those of the end.

    The `WIDTH` likeliest token sequences of each length are kept, every middle of at most `n_bytes` is held against the end.
    """
    tokenizer: Any = model.tokenizer
    begin = [*beginning(tokenizer, "always"), *encode_piece(tokenizer, before, first=True).ids]
    end = encode_piece(tokenizer, after, first=False).ids
    grown: list[tuple[list[int], float]] = [([], 0.0)]
    found: dict[str, float] = {}
    while grown:
        for ids, log_p in grown:
            middle = tokenizer.decode(ids)
            ending = -float(model.surprisal([[*begin, *ids, *end]])[0, len(begin) + len(ids) :].sum())
            found[middle] = max(found.get(middle, -np.inf), log_p + ending)
        longer = []
        for ids, log_p in grown:
            read = [*begin, *ids]
            nexts = model.extend(model.rows(1, len(read)), [read])[0, -1].log_softmax(-1)
            top = nexts.topk(WIDTH)
            longer += [([*ids, int(id)], log_p + float(p)) for id, p in zip(top.indices, top.values, strict=True)]
        short = [one for one in longer if len(tokenizer.decode(one[0]).encode()) <= n_bytes]
        grown = sorted(short, key=lambda one: -one[1])[:WIDTH]
    return sorted(found, key=lambda middle: -found[middle])


def compare_fills(model: LanguageModel) -> pd.DataFrame:
    """Returns for every gap whether it is filled as it was, exactly and as typed."""
    of_bytes, rows = ByteModel(model, tolerance=TOLERANCE), []
    for item, (before, middle, after) in enumerate(gaps()):
        n_bytes = len(middle) + 1
        exact = fill(of_bytes, before, after, n_bytes, width=WIDTH)[0].middle.decode()
        typed = fill_as_typed(model, before, after, n_bytes)[0]
        rows.append({"item": item, "before": before[-20:], "middle": middle, "after": after, "by_bytes": exact, "as_typed": typed,
                     "exact": float(exact == middle), "typed": float(typed == middle)})  # fmt: skip
        sys.stdout.write(f"{rows[-1]}\n")
        sys.stdout.flush()
    return pd.DataFrame(rows)


def ensemble() -> pd.DataFrame:
    """Returns bits per byte of the English prompts of byte_bias, by weight of smollm2-135m beside transformer-news-4."""
    models = [ByteModel(load(name), tolerance=TOLERANCE) for name in ("smollm2-135m", "transformer-news-4")]
    rows = []
    for prompt in Settings().read_prompts():
        if prompt.domain not in ("trailing_space", "inside_a_word"):
            continue
        readings = [model.read(prompt.text) for model in models]
        places = np.arange(len(prompt.text)), list(prompt.text)
        for weight in WEIGHTS:
            log_p = ByteEnsemble(models, [weight, 1 - weight]).mixed(readings)[places]
            rows.append({"prompt": prompt.id, "weight": weight, "bits_per_byte": -float(log_p.mean()) / np.log(2)})
    return pd.DataFrame(rows)


def main() -> None:
    """Prints the example named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("example", choices=("fill", "ensemble"))
    if parser.parse_args().example == "ensemble":
        sys.stdout.write(estimates(ensemble(), ["weight"], "bits_per_byte", "prompt").to_string(index=False) + "\n")
        return
    found = compare_fills(load("smollm2-135m"))
    found["all"] = "all"
    for name, minus in (("exact", None), ("typed", None), ("exact", "typed")):
        row = estimates(found, ["all"], name, "item", kind="share", minus=minus).iloc[0]
        sys.stdout.write(
            f"{name} {minus or ''}: {row['value']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}], {row['n']} gaps\n"
        )


if __name__ == "__main__":
    main()
