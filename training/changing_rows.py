"""Character models whose embedding rows change during training: what they store about letters, and what they infer in context.

    python -m training.changing_rows        # writes training/changing_rows.csv; about 20 minutes of one core; resumes after an interruption

Four arms of one model (4 layers, rows that also give the logits), trained on the same news prose in 30 characters:
  vanilla      rows are parameters;
  lexinvariant rows are redrawn for every text, so only the text itself shows what a row stands for (arXiv:2305.16349);
  active       rows are parameters that are reset every few steps (active forgetting, arXiv:2406.00053);
  temporary    the same, but only in the first half of training.
Each is tested on other articles with its own rows (a lexinvariant model has none) and with new rows for every text, by position in
the text.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from interp.estimates import estimates
from interp.stimuli.prose import news_articles

ARMS = ("vanilla", "lexinvariant", "active", "temporary")
ALPHABET = "\0 abcdefghijklmnopqrstuvwxyz.,'"
"""The first stands for every other character."""
LAYERS, WIDTH, HEADS, CONTEXT = 4, 64, 4, 192
STEPS, BATCH, PEAK_RATE = 1200, 16, 3e-3
FORGET_EVERY = 100
"""Steps from one forgetting to the next."""
BINS = (8, 16, 32, 64, 128, CONTEXT)
"""Places up to which each class of places goes."""
TESTED, HELD_OUT = 200, 0.1
CHECKPOINT_EVERY = 250
RESULT = Path(__file__).with_suffix(".csv")


class Block(nn.Module):
    """A layer of causal attention and a feed-forward layer, norms before."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.mixed, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.forward_layer = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, stream: Float[Tensor, "text place width"]) -> Float[Tensor, "text place width"]:
        """Returns the stream behind the layer."""
        parts = self.mixed(self.norms[0](stream)).chunk(3, dim=-1)
        query, key, value = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in parts)
        seen = scaled_dot_product_attention(query, key, value, is_causal=True)
        stream = stream + self.out(seen.transpose(1, 2).flatten(-2))
        return stream + self.forward_layer(self.norms[1](stream))


class Characters(nn.Module):
    """A model of characters to which the rows of each text are given."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Parameter(new_rows(1)[0])
        self.places = nn.Parameter(0.1 * torch.randn(CONTEXT, WIDTH))
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(
        self, ids: Int[Tensor, "text place"], rows: Float[Tensor, "text character width"] | None = None
    ) -> Float[Tensor, "text place character"]:
        """Returns logits of the next character; the model's own rows, if no other are given."""
        rows = self.rows.expand(len(ids), -1, -1) if rows is None else rows
        read = rows.gather(1, ids[..., None].expand(-1, -1, WIDTH))
        return self.norm(self.blocks(read + self.places[: ids.shape[1]])) @ rows.transpose(1, 2) / WIDTH**0.5


def new_rows(n_texts: int, generator: torch.Generator | None = None) -> Float[Tensor, "text character width"]:
    """Returns Gaussian rows."""
    return torch.randn(n_texts, len(ALPHABET), WIDTH, generator=generator)


def characters(text: str) -> Int[Tensor, " place"]:
    """Returns the characters of a text as numbers, lower case alone."""
    return torch.tensor([max(ALPHABET.find(one), 0) for one in text.lower()])


def windows(texts: list[str], n: int, generator: torch.Generator) -> Int[Tensor, "text place"]:
    """Returns pieces of random texts, from random places, one character longer than the context."""
    chosen = torch.randint(len(texts), (n,), generator=generator).tolist()
    found = []
    for place in chosen:
        start = int(torch.randint(len(texts[place]) - CONTEXT, (1,), generator=generator))
        found.append(characters(texts[place][start : start + CONTEXT + 1]))
    return torch.stack(found)


def trained(arm: str, texts: list[str], steps: int = STEPS, checkpoint: Path | None = None) -> Characters:
    """Returns a trained model; with a checkpoint it goes on from there."""
    torch.manual_seed(0)
    model = Characters()
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps)
    first = 0
    if checkpoint and checkpoint.is_file():
        kept = torch.load(checkpoint, weights_only=True)
        first = kept["step"]
        for one, state in zip((model, optimizer, schedule), kept["states"], strict=True):
            one.load_state_dict(state)
    for step in range(first, steps):
        generator = torch.Generator().manual_seed(step)
        ids = windows(texts, BATCH, generator)
        if step and step % FORGET_EVERY == 0 and (arm == "active" or (arm == "temporary" and step <= steps // 2)):
            forget(model, optimizer, generator)
        logits = model(ids[:, :-1], new_rows(BATCH, generator) if arm == "lexinvariant" else None)
        optimizer.zero_grad()
        cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if checkpoint and (step + 1) % CHECKPOINT_EVERY == 0:
            states = [one.state_dict() for one in (model, optimizer, schedule)]
            torch.save({"step": step + 1, "states": states}, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)
    return model.eval()


def forget(model: Characters, optimizer: torch.optim.Optimizer, generator: torch.Generator) -> None:
    """Draws the rows anew; what the optimizer kept of them goes too."""
    model.rows.data = new_rows(1, generator)[0]
    optimizer.state.pop(model.rows, None)


@torch.inference_mode()
def tested(model: Characters, arm: str, texts: list[str]) -> Iterator[pd.DataFrame]:
    """Yields the mean surprisal of each held-out text in each class of places, with own and with new rows."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.stack([characters(text[: CONTEXT + 1]) for text in texts])
    for rows in ("own", "new"):
        if (arm, rows) == ("lexinvariant", "own"):
            continue
        logits = model(ids[:, :-1], new_rows(len(ids), generator) if rows == "new" else None)
        nats = cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none").numpy()
        for low, high in zip((0, *BINS[:-1]), BINS, strict=True):
            yield pd.DataFrame(
                {
                    "arm": arm,
                    "rows": rows,
                    "places": f"{low}-{high - 1}",
                    "text": range(len(nats)),
                    "nats": nats[:, low:high].mean(axis=1),
                }
            )


def main() -> None:
    """Trains every arm and writes the table: surprisal in nats by places, with intervals over texts."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument(
        "--checkpoints", type=Path, default=Path("runs") / "changing_rows", help="folder of checkpoints"
    )
    folder = parser.parse_args().checkpoints
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    texts = [text for text in news_articles() if len(text) > CONTEXT + 1]
    order = np.random.default_rng(0).permutation(len(texts))
    n_held_out = round(HELD_OUT * len(texts))
    held_out = [texts[place] for place in order[:n_held_out][:TESTED]]
    training = [texts[place] for place in order[n_held_out:]]
    frames = [
        frame
        for arm in ARMS
        for frame in tested(trained(arm, training, checkpoint=folder / f"{arm}.pt"), arm, held_out)
    ]
    table = estimates(pd.concat(frames, ignore_index=True), ["arm", "rows", "places"], "nats", "text", name="nats")
    table.round(4).to_csv(RESULT, index=False)


if __name__ == "__main__":
    main()
