"""Recall against bytes of state: multi-query associative recall in small models of equal size with different kinds of state.

    python -m training.mqar        # resumes where training/mqar.csv ends; about eleven minutes of one core in total

A text consists of key-value pairs, followed by the keys again among filler tokens. At each repeated key the model must predict its
value, which does not occur again. Keys, values and fillers are disjoint sets of tokens. Every model is trained on 4, 8 and 12 pairs in
turn, with one optimiser and one learning rate, so low recall may also mean slow learning.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.functional import cross_entropy

from training.mixers import Reader, Shape

KEYS, VALUES, FILLERS = 24, 24, 8
VOCABULARY = KEYS + VALUES + FILLERS
TOKENS = 40
PAIRS = (4, 8, 12)
ASKED = 0.75
"""Share of the tokens behind the pairs that are questions; the others are fillers."""
STEPS, BATCH, PEAK_RATE, RISE, DECAY = 1200, 24, 1e-2, 0.1, 0.1
SEEDS = (0, 1, 2, 3, 4)
TESTED = 200
"""Texts of each number of pairs that a trained model is asked about."""
UNASKED = -100
SHAPES = (
    Shape("attention", 8), Shape("linear", 4), Shape("window", 8), Shape("both", 4), Shape("state space", 8),
    Shape("linear", 8), Shape("attention", 4), Shape("state space", 16), Shape("linear", 2), Shape("attention", 2), Shape("window", 16),
    Shape("both", 8), Shape("state space", 4), Shape("window", 32), Shape("both", 2),
)  # fmt: skip
"""A size of every kind before the next, so that a table that is not finished can be read."""
RESULT = Path(__file__).with_suffix(".csv")
PICTURES = Path(__file__).resolve().parents[1] / "docs" / "results" / "context_recall"
Texts = Int[Tensor, "text token"]


def draw(n: int, n_pairs: int, generator: torch.Generator) -> tuple[Texts, Texts]:
    """Returns n texts, and the value wanted after every token: UNASKED where the token is no question."""
    keys = torch.rand(n, KEYS, generator=generator).argsort(dim=-1)[:, :n_pairs]
    values = torch.rand(n, VALUES, generator=generator).argsort(dim=-1)[:, :n_pairs] + KEYS
    pairs = torch.stack([keys, values], dim=-1).flatten(1)
    rest = TOKENS - 2 * n_pairs
    which = torch.randint(n_pairs, (n, rest), generator=generator)
    is_asked = torch.rand(n, rest, generator=generator) < ASKED
    fillers = torch.randint(KEYS + VALUES, VOCABULARY, (n, rest), generator=generator)
    ids = torch.cat([pairs, torch.where(is_asked, keys.gather(1, which), fillers)], dim=1)
    wanted = torch.where(is_asked, values.gather(1, which), UNASKED)
    return ids, torch.cat([torch.full_like(pairs, UNASKED), wanted], dim=1)


def trained(shape: Shape, seeds: Sequence[int], steps: int = STEPS) -> list[Reader]:
    """Returns a trained model for every seed. They are trained side by side, each on texts of its own, and know nothing of each other."""
    models = []
    for seed in seeds:
        torch.manual_seed(seed)
        models.append(Reader(shape, VOCABULARY))
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    weights, _ = stack_module_state(models)
    read = vmap(lambda part, ids: functional_call(models[0], part, (ids,)))
    optimizer = torch.optim.AdamW(weights.values(), lr=PEAK_RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps, pct_start=RISE)
    for step in range(steps):
        drawn = [draw(BATCH, PAIRS[step % len(PAIRS)], generator) for generator in generators]
        ids, wanted = (torch.stack(part) for part in zip(*drawn, strict=True))
        logits = read(weights, ids)
        losses = [
            cross_entropy(own.flatten(0, 1), right.flatten(), ignore_index=UNASKED)
            for own, right in zip(logits, wanted, strict=True)
        ]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()
        schedule.step()
    for number, model in enumerate(models):
        model.load_state_dict({name: part[number].detach() for name, part in weights.items()})
    return models


@torch.inference_mode()
def tested(model: Reader, shape: Shape, seed: int, steps: int) -> Iterator[dict[str, Any]]:
    """Yields the share of questions whose likeliest token is the value, by number of pairs; chance is among the text's values."""
    for n_pairs in PAIRS:
        ids, wanted = draw(TESTED, n_pairs, torch.Generator().manual_seed(10_000 + seed))
        asked = wanted != UNASKED
        right = model(ids).argmax(dim=-1)[asked] == wanted[asked]
        yield {
            "kind": shape.kind, "size": shape.size, "state_bytes": shape.state_bytes(TOKENS),
            "n_parameters": sum(part.numel() for part in model.parameters()), "steps": steps, "seed": seed, "n_pairs": n_pairs,
            "accuracy": round(float(right.float().mean()), 4), "chance": round(1 / n_pairs, 4), "n_questions": int(asked.sum()),
        }  # fmt: skip


def recall_of(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the recall of every shape by number of pairs, mean over seeds, with its interval over seeds."""
    from interp.estimates import estimates

    return estimates(
        table, ["kind", "size", "state_bytes", "steps", "n_pairs", "chance"], "accuracy", "seed", kind="share"
    )


def draw_page(table: pd.DataFrame) -> None:
    """Draws the figure of the results page."""
    from figures.context_recall_states import plot_states
    from interp.experiments.export import shrink_png, write_images

    drawn = {"state_bytes": plot_states(recall_of(table))}
    for picture in write_images(drawn, PICTURES, ["png"], pixels_per_png_pixel=1.25):
        shrink_png(picture)


def main() -> None:
    """Trains the shapes that the table lacks, adds the rows of each when it is done, and draws the figure of the results page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULT, help="result table; an existing one is continued")
    table = parser.parse_args().out
    torch.set_num_threads(1)
    rows: list[dict[Any, Any]] = pd.read_csv(table).to_dict("records") if table.is_file() else []
    done = {(row["kind"], row["size"], row["steps"]) for row in rows}
    for shape in SHAPES:
        if (shape.kind, shape.size, STEPS) not in done:
            for seed, model in zip(SEEDS, trained(shape, SEEDS), strict=True):
                rows += tested(model, shape, seed, STEPS)
            pd.DataFrame(rows).to_csv(table, index=False)
    draw_page(pd.DataFrame(rows))


if __name__ == "__main__":
    main()
