"""How much attention each head gives to function and to content tokens, in prose and while it answers from a context."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.models.language import LanguageModel
from interp.models.recording import AttentionRows

TOKEN_GROUPS = ("function words", "function signs", "content")
FUNCTION, WORDS = "function", ("word", "part of word")
"""As a function_tokens run names the class and the kinds with letters."""


@dataclass(frozen=True)
class Text:
    """Tokens to read, the queries that look back over them, and which of them belong to a needle."""

    id: str
    context: str
    ids: Sequence[int]
    queries: Sequence[int]
    needle: tuple[int, int] | None = None
    """Span [start, end) of the needle, where there is one."""

    def regions(self) -> dict[str, Bool[Tensor, " key"]]:
        """Returns which earlier tokens are looked at: all but the first, and those of the needle."""
        everywhere = torch.arange(len(self.ids)) > 0
        if self.needle is None:
            return {"all": everywhere}
        place = torch.arange(len(self.ids))
        return {"all": everywhere, "needle": everywhere & (place >= self.needle[0]) & (place < self.needle[1])}


@dataclass(frozen=True)
class MassOn:
    """`mass_on`, [row, head, query, group]: attention weight on groups of keys, the query's own position left out.

    `groups` says which keys are in which group; `queries` are the recording's positions of a text that is read at once.
    """

    groups: Float[Tensor, "key group"]
    queries: Int[Tensor, " query"]

    def __call__(self, rows: AttentionRows) -> dict[str, Tensor]:
        """Adds up the weights."""
        own = self.queries[rows.wanted].to(rows.weights.device)[None, None, :, None]
        weights = rows.weights.scatter(-1, own.expand(*rows.weights.shape[:3], 1), 0.0)
        return {"mass_on": weights @ self.groups.to(weights.device)[: weights.shape[-1]]}


def group_of_ids(classes: pd.DataFrame, n_ids: int) -> Int[Tensor, " id"]:
    """Returns the group of every token id, an index of TOKEN_GROUPS, by the `token_classes` of a function_tokens run.

    A token that its texts lack is a content token. Signs are function tokens without letters, such as commas.
    """
    group = torch.full((n_ids,), TOKEN_GROUPS.index("content"))
    function = classes[classes["token_class"] == FUNCTION]
    words = function["kind"].isin(WORDS)
    group[torch.tensor(function.loc[words, "token_id"].to_numpy(), dtype=torch.long)] = 0
    group[torch.tensor(function.loc[~words, "token_id"].to_numpy(), dtype=torch.long)] = 1
    return group


def measure_class_mass(model: LanguageModel, text: Text, group: Int[Tensor, " id"]) -> pd.DataFrame:
    """Returns a text's rows of `class_mass`: every head's mass on every class, and what an even spread would give it."""
    ids = torch.tensor(list(text.ids))
    special = torch.isin(ids, torch.tensor(sorted(model.tokenizer.all_special_ids), dtype=torch.long))
    queries = torch.tensor(list(text.queries))
    member = torch.nn.functional.one_hot(group[ids], len(TOKEN_GROUPS)).bool() & ~special[:, None]
    regions = {name: member & keys[:, None] for name, keys in text.regions().items()}
    first = torch.zeros(len(ids), 1, dtype=torch.bool)
    first[0] = True
    columns = torch.cat([*regions.values(), first], dim=1)
    with model.record(queries[None], MassOn(columns.float(), queries)) as recording:
        model.prefix(list(text.ids))
    mass = recording["mass_on"][:, 0].double()
    frames = []
    for index, (region, keys) in enumerate(regions.items()):
        own = mass[..., index * len(TOKEN_GROUPS) : (index + 1) * len(TOKEN_GROUPS)]
        frames.append(_rows(model, text, region, own, even_masses(own, keys, queries), mass[..., -1]))
    return pd.concat(frames, ignore_index=True)


def even_masses(
    mass: Float[Tensor, "layer head query group"], keys: Bool[Tensor, "key group"], queries: Int[Tensor, " query"]
) -> Float[Tensor, "layer head query group"]:
    """Returns what each class would get if a head's mass on all classes were spread evenly over their earlier tokens.

    Earlier than the query: a query without any gives and gets nothing.
    """
    before = keys.double().cumsum(dim=0) - keys.double()
    earlier = before[queries]
    share = earlier / earlier.sum(dim=-1, keepdim=True).clamp(min=1)
    return mass.sum(dim=-1, keepdim=True) * share


def _rows(
    model: LanguageModel,
    text: Text,
    region: str,
    mass: Float[Tensor, "layer head query group"],
    even: Float[Tensor, "layer head query group"],
    first: Float[Tensor, "layer head query"],
) -> pd.DataFrame:
    layers, heads, _, groups = mass.shape
    layer, head, group = (index.ravel() for index in np.indices((layers, heads, groups)))
    return pd.DataFrame(
        {
            "model": model.identity.name,
            "context": text.context,
            "region": region,
            "text_id": text.id,
            "layer": layer,
            "head": head,
            "token_group": np.array(TOKEN_GROUPS)[group],
            "mass": mass.sum(dim=2).flatten().numpy(),
            "even_mass": even.sum(dim=2).flatten().numpy(),
            "first_mass": first.sum(dim=2)[..., None].expand(-1, -1, groups).flatten().numpy(),
            "n_queries": len(text.queries),
        }
    )


def needle_texts(samples: pd.DataFrame, n: int, seed: int) -> list[Text]:
    """Returns retrieval prompts with the answers that were given, n of them drawn over all needles in turn.

    The query that writes an answer's token is the position before it, as in the copy-paste score.
    """
    asked = samples[samples["has_needle"]]
    shuffled = asked.iloc[np.random.default_rng(seed).permutation(len(asked))]
    turn = shuffled.groupby("needle_id", sort=False).cumcount()
    chosen = shuffled.iloc[np.argsort(turn.to_numpy(), kind="stable")].head(n)
    return [_needle_text(row) for row in chosen.to_dict("records")]


def _needle_text(row: Mapping[Any, Any]) -> Text:
    prompt, answer = list(row["prompt_token_ids"]), list(row["answer_token_ids"])
    queries = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
    ids = [int(id) for id in (*prompt, *answer[:-1])]
    return Text(str(row["sample_id"]), "needle", ids, list(queries), (int(row["needle_start"]), int(row["needle_end"])))
