"""Where heads look while a list comes back: the attention masses that pick out heads by what they do.

After the code of Armeni et al. (2024 line, GPT-2 only): from the token before a noun of the second list, `matching` is the
weight on the token before the same noun in the first list, `postmatch` that on the noun itself (what induction heads do),
`recent` that on the three tokens before. Theirs is taken at the first noun; here the mean over the others, which are the
ones that repeat surprisal counts.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.models.language import LanguageModel
from interp.models.recording import WeightAt
from probes.verbatim_memory.trials import Trial

Look = Literal["matching", "postmatch", "recent"]
LOOKS: tuple[Look, ...] = get_args(Look)
N_RECENT = 3


def looks_of(trial: Trial) -> tuple[Int[Tensor, " query"], Int[Tensor, "query five"]]:
    """Returns, for a trial whose lists are alike, the queries and the keys of each: matching, postmatch, then the recent.

    A query is the position before a noun of the second list, from the second noun on. Positions count from the trial's start.
    """
    first, second = trial.noun_starts(1)[1:], trial.noun_starts(2)[1:]
    queries = second - 1
    recent = queries[:, None] - torch.arange(1, N_RECENT + 1)
    return queries, torch.cat([(first - 1)[:, None], first[:, None], recent], dim=1)


def look_masses(weights: Float[Tensor, "*axes five"]) -> dict[Look, Float[Tensor, "*axes"]]:
    """Returns the masses by name from the weights on the keys of `looks_of`."""
    return {"matching": weights[..., 0], "postmatch": weights[..., 1], "recent": weights[..., 2:].sum(dim=-1)}


def measure_looks(model: LanguageModel, trials: Sequence[Trial]) -> pd.DataFrame:
    """Returns the rows of `list_attention`: each head's masses in each trial, means over the nouns but the first."""
    queries, keys = zip(*(looks_of(trial) for trial in trials), strict=True)
    rows = model.rows(len(trials), max(len(trial.ids) for trial in trials))
    with model.record(torch.stack(queries), WeightAt(torch.stack(keys))) as recording:
        model.extend(rows, [list(trial.ids) for trial in trials], logits="none")
    weights = recording["weight_at"].double()  # [layer, trial, head, query, key]
    n_layers, _, n_heads = weights.shape[:3]
    frames = []
    for index, trial in enumerate(trials):
        masses = look_masses(weights[:, index].mean(dim=2))
        frames.append(
            pd.DataFrame(
                {
                    "model": model.identity.name,
                    "trial_id": trial.first.id,
                    "base_list": trial.first.base_list,
                    "layer": torch.arange(n_layers).repeat_interleave(n_heads).numpy(),
                    "head": torch.arange(n_heads).repeat(n_layers).numpy(),
                    **{look: mass.flatten().clamp(0, 1).numpy() for look, mass in masses.items()},
                }
            )
        )
    return pd.concat(frames, ignore_index=True)
