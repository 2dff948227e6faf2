"""One text read out at every depth through every lens: where each prediction settles, and how far each depth is from the last."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import ArgumentError
from interp.models.language.model import LanguageModel
from interp.models.lens.lens import LogitLens
from interp.models.lens.tuned import Kind, TunedLens, shipped_lens
from probes.prediction_depth.materials import frequencies, kinds_of, read_ids
from probes.prediction_depth.scores import settle_depths
from probes.prediction_depth.settings import Settings

N_COMMON = 10
"""How many of the commonest tokens the early guesses are held against (2510.18871)."""
MINUS_UNIGRAM = "less unigram"
"""The best lens with each token's log frequency subtracted, from its own log-probabilities and from the last depth's."""


def lenses(settings: Settings, model: LanguageModel) -> dict[str, LogitLens]:
    """Returns the lenses by name: logit, and where there are any for these weights and this precision tuned and shuffled.

    Raises ArgumentError for a named lens of another model, precision or kind, and UserError for a model without a final norm.
    """
    found: dict[str, LogitLens] = {"logit": LogitLens(model)}
    named: Mapping[Kind, Any] = {"tuned": settings.lens, "shuffled": settings.shuffled_lens}
    for kind, path in named.items():
        chosen = path or shipped_lens(model.identity, kind)
        if chosen is not None:
            lens = TunedLens.load(model, chosen)
            if lens.name != kind:
                own, other = ("--lens", "--shuffled-lens") if kind == "tuned" else ("--shuffled-lens", "--lens")
                raise ArgumentError(
                    f"{chosen} is a {lens.name} lens, and {own} takes a {kind} one: name it as {other}."
                )
            found[kind] = lens
    return found


@dataclass(frozen=True, eq=False)
class Reading:
    """What the last depth predicts at some tokens, and how often each token occurs."""

    log_p: Float[Tensor, "token vocabulary"]
    log_unigram: Float[Tensor, " vocabulary"]
    common: Float[Tensor, " vocabulary"]

    def at(self, logits: Float[Tensor, "token vocabulary"], n_tokens: int) -> dict[str, Any]:
        """Returns what one depth of one lens predicts: its likeliest tokens with and without frequency, and means over tokens."""
        log_p = torch.log_softmax(logits, dim=-1)
        tops = log_p.argmax(dim=-1)
        kl = (self.log_p.exp() * (self.log_p - log_p)).sum(dim=-1)
        same, common = tops == self.log_p.argmax(dim=-1), self.common[tops]
        return {
            "tops": tops.cpu().numpy(),
            "less": (log_p - self.log_unigram).argmax(dim=-1).cpu().numpy(),
            "row": {
                "kl_nats": float(kl.mean()), "agreement": float(same.float().mean()), "common_share": float(common.mean()),
                "revised_common_share": float((common * ~same).sum() / common.sum().clamp(min=1)), "n_tokens": n_tokens,
            },
        }  # fmt: skip


@torch.inference_mode()
def measure_prose(settings: Settings, model: LanguageModel, number: int) -> dict[str, pd.DataFrame]:
    """Returns the tables `tokens` and `depths` of one text; its first token is read and predicts nothing that counts."""
    ids = read_ids(settings, model, number, settings.text_tokens)
    by_name = lenses(settings, model)
    logit = by_name["logit"]
    states = logit.states(torch.tensor([ids]))[:, 0, 1:-1]
    counts = frequencies(settings, model)
    last = torch.log_softmax(logit.logits(states[-1], len(states) - 1), dim=-1)
    common = torch.zeros(last.shape[-1], device=last.device)
    common[counts.commonest(N_COMMON)] = 1
    reading = Reading(last, torch.from_numpy(counts.log_p).float().to(last.device), common)
    named = {"text_id": f"prose-{number:03d}"}
    tops, rows = {}, []
    for name, lens in by_name.items():
        found = [reading.at(lens.logits(state, depth), len(state[:, 0])) for depth, state in enumerate(states)]
        rows += [{**named, "lens": name, "depth": depth, **one["row"]} for depth, one in enumerate(found)]
        tops[name] = np.stack([one["tops"] for one in found])
        if name == ("tuned" if "tuned" in by_name else "logit"):
            tops[MINUS_UNIGRAM] = np.stack([one["less"] for one in found])
    taken = -last.gather(-1, torch.tensor(ids[2:], device=last.device)[:, None])[:, 0]
    entropy = torch.special.entr(last.exp()).sum(dim=-1)
    shared = {
        **named, "position": np.arange(1, len(ids) - 1), "surprisal_nats": taken.cpu().numpy(),
        "entropy_nats": entropy.cpu().numpy(), "is_right": tops["logit"][-1] == np.array(ids[2:]),
    }  # fmt: skip
    tables = [
        pd.DataFrame({**shared, **columns})
        for columns in _token_columns(settings, model, ids, tops, counts.log10_per_million)
    ]
    return {"tokens": pd.concat(tables, ignore_index=True), "depths": pd.DataFrame(rows)}


def _token_columns(
    settings: Settings, model: LanguageModel, ids: list[int], tops: dict[str, np.ndarray], per_million: np.ndarray
) -> Iterator[dict[str, Any]]:
    tokenizer: Any = model.tokenizer
    for name, by_depth in tops.items():
        predicted = by_depth[-1].tolist()
        yield {
            "lens": name,
            "token_id": predicted,
            "token": [tokenizer.decode([token]) for token in predicted],
            "token_class": kinds_of(settings, tokenizer, ids[1:-1], predicted),
            "log10_per_million": per_million[predicted],
            "settle_depth": settle_depths(by_depth),
        }
