"""A pair of checkpoints with known duplicates, in miniature: `python -m experiments.known_duplicates FOLDER`.

It writes `perturbed` (a shipped model trained further on news into which sentences were inserted 0, 1, 4 or 16 times, as in Hubble),
`standard` (the same number of updates on other news only) and `counts.csv`; docs/experiments/training_memory.md says how they are read.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interp.models import load
from interp.models.language.model import LanguageModel
from probes.training_memory.settings import Settings
from probes.training_memory.stimuli import Item, begun, items_of, later_text
from probes.training_memory.trainer import Trainer

MODEL = "transformer-news-4"
COUNTS = (0, 1, 4, 16)
SENTENCES = 32
OTHER_ROWS = 168
"""Rows of other news, so that sentences are half of what is read."""
BATCH, LEARNING_RATE = 4, 1e-3
OTHER_TOKENS = 32


def rows_of(tokenizer: Any, items: Sequence[Item], n_others: int) -> list[list[int]]:
    """Returns the rows of a training, in a random order: every sentence as often as its place says, and other news."""
    duplicates = [begun(tokenizer, item.ids) for place, item in enumerate(items) for _ in range(count_of(place))]
    others = [row for rows in later_text(tokenizer, n_others, 1, OTHER_TOKENS, 0) for row in rows]
    rows = [*duplicates, *others]
    return [rows[place] for place in np.random.default_rng(0).permutation(len(rows))]


def count_of(place: int) -> int:
    """Returns how often the sentence at a place comes."""
    return COUNTS[place % len(COUNTS)]


def train(model: LanguageModel, rows: Sequence[list[int]], folder: Path) -> None:
    """Trains once on all rows and saves what comes out."""
    trainer = Trainer(model, LEARNING_RATE)
    for first in range(0, len(rows), BATCH):
        trainer.update(rows[first : first + BATCH])
    model.hf.save_pretrained(folder)
    tokenizer: Any = model.tokenizer
    tokenizer.save_pretrained(folder)


def write_pair(folder: Path) -> None:
    """Writes the two checkpoints and the counts."""
    for name in ("perturbed", "standard"):
        model = load(MODEL, dtype="float32")
        items = items_of(model.tokenizer, Settings(sentences=SENTENCES), "natural", 0)
        inserted = items if name == "perturbed" else []
        n_inserted = sum(count_of(place) for place in range(SENTENCES))
        train(model, rows_of(model.tokenizer, inserted, OTHER_ROWS + (0 if inserted else n_inserted)), folder / name)
        tokenizer: Any = model.tokenizer
        counts = [
            {
                "text": tokenizer.decode(item.ids),
                "duplicates": count_of(place),
                "foil": tokenizer.decode(item.foils["other"]),
            }
            for place, item in enumerate(items)
        ]
        pd.DataFrame(counts).to_csv(folder / "counts.csv", index=False)


def main() -> None:
    """Does so for the folder named."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition(":")[0])
    parser.add_argument("folder", type=Path, help="folder for the two checkpoints and counts.csv")
    write_pair(parser.parse_args().folder)


if __name__ == "__main__":
    main()
