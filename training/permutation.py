"""Inverse permutation: which slots a two-layer attention model can fill with a causal mask, with extra rows after it, and without a mask.

    python -m training.permutation        # writes training/permutation.csv; under a minute of one core

Row i of the input holds a target slot p(i), one-hot, and a bit y(i). The output at slot j must be the bit with that target: y(i) with
p(i) = j. With a causal mask, a slot whose row lies to its right cannot be filled at any depth (impossibility of inverse permutation,
2025). If the output is read from as many empty rows appended to the input, or without a mask, two layers are enough.
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

ARMS = ("causal", "causal, room behind", "no mask")
ITEMS, WIDTH, HEADS, LAYERS = 6, 64, 4, 2
STEPS, BATCH, PEAK_RATE = 250, 64, 3e-3
SEEDS = (0, 1)
TESTED = 2000
RESULT = Path(__file__).with_suffix(".csv")


class Permuter(nn.Module):
    """Attention layers alone, with learned positions, and a logit for every position."""

    def __init__(self, arm: str) -> None:
        super().__init__()
        self.room = ITEMS if arm == ARMS[1] else 0
        self.causal = arm != ARMS[2]
        self.read = nn.Linear(ITEMS + 1, WIDTH)
        self.places = nn.Parameter(0.5 * torch.randn(ITEMS + self.room, WIDTH))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(LAYERS))
        self.layers = nn.ModuleList(nn.MultiheadAttention(WIDTH, HEADS, batch_first=True) for _ in range(LAYERS))
        self.out = nn.Linear(WIDTH, 1)

    def forward(self, rows: Float[Tensor, "text item input"]) -> Float[Tensor, "text slot"]:
        """Returns the logit of a 1 for every slot."""
        empty = rows.new_zeros(len(rows), self.room, rows.shape[-1])
        stream = self.read(torch.cat([rows, empty], dim=1)) + self.places
        n = stream.shape[1]
        mask = torch.ones(n, n, dtype=torch.bool).triu(1) if self.causal else None
        for norm, layer in zip(self.norms, self.layers, strict=True):
            seen = norm(stream)
            stream = stream + layer(seen, seen, seen, attn_mask=mask, need_weights=False)[0]
        return self.out(stream[:, -ITEMS:]).squeeze(-1)


def draw(
    n: int, generator: torch.Generator
) -> tuple[Float[Tensor, "text item input"], Float[Tensor, "text slot"], Int[Tensor, "text slot"]]:
    """Returns inputs, the bit of every slot, and the row that each slot's bit stands in."""
    belongs = torch.rand(n, ITEMS, generator=generator).argsort(dim=-1)
    bits = torch.randint(2, (n, ITEMS), generator=generator).float()
    source = belongs.argsort(dim=-1)
    rows = torch.cat([nn.functional.one_hot(belongs, ITEMS).float(), bits[..., None]], dim=-1)
    return rows, bits.gather(1, source), source


def is_visible(arm: str, source: Int[Tensor, "text slot"]) -> Bool[Tensor, "text slot"]:
    """Returns whether a slot's row stands where the slot is read from, or before it."""
    return torch.ones_like(source, dtype=torch.bool) if arm != ARMS[0] else source <= torch.arange(ITEMS)


def trained(arm: str, seed: int, steps: int = STEPS) -> Permuter:
    """Returns a trained model."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = Permuter(arm)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps)
    for _ in range(steps):
        rows, wanted, _ = draw(BATCH, generator)
        loss = nn.functional.binary_cross_entropy_with_logits(model(rows), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.inference_mode()
def tested(model: Permuter, arm: str, seed: int) -> Iterator[dict[str, object]]:
    """Yields the share of right slots by whether their row can be seen."""
    rows, wanted, source = draw(TESTED, torch.Generator().manual_seed(10_000 + seed))
    right = (model(rows) > 0) == (wanted > 0.5)
    visible = is_visible(arm, source)
    for seen in (True, False):
        if (visible == seen).any():
            yield {
                "arm": arm, "source_visible": seen, "seed": seed, "right": float(right[visible == seen].float().mean()),
                "n_slots": int((visible == seen).sum()),
            }  # fmt: skip


def main() -> None:
    """Trains every arm with every seed and writes the table: shares of right slots, one row for each seed."""
    torch.set_num_threads(1)
    rows = [row for arm in ARMS for seed in SEEDS for row in tested(trained(arm, seed), arm, seed)]
    table = pd.DataFrame(rows).round(4)
    table.to_csv(RESULT, index=False)


if __name__ == "__main__":
    main()
