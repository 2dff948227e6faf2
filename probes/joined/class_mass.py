"""How much attention each head gives to function and to content tokens, in prose and while it answers from a context."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import ArgumentError
from interp.models.language.model import LanguageModel
from interp.models.language.recording import AttentionRows
from interp.statistics import Array
from interp.stimuli.prose import news_articles

TOKEN_GROUPS = ("function words", "function signs", "content")
FUNCTION, WORDS = "function", ("word", "part of word")
"""As a function_tokens run names the class and the kinds with letters."""
PARTS = {"function": [0, 1], "function words": [0], "function signs": [1]}
"""Which of the stored classes (in the order of TOKEN_GROUPS) a group is made of."""
LETTERS_PER_TOKEN = 8
"""An article is cut to so many letters per token before it is read; fewer than this many tokens come of it almost never."""
Head = tuple[int, int]


# ---------------------------------------------------------------------- texts to read


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


def prose_texts(tokenizer: Any, n: int, n_tokens: int, seed: int) -> list[Text]:
    """Returns n passages of n_tokens tokens each, every position but the first a query; they begin as the tokenizer has it.

    Raises ArgumentError when there are not so many articles of that length.
    """
    articles = news_articles()
    texts: list[Text] = []
    for index in np.random.default_rng(seed).permutation(len(articles)):
        ids = tokenizer(articles[index][: n_tokens * LETTERS_PER_TOKEN], verbose=False)["input_ids"]
        if len(ids) >= n_tokens:
            texts.append(Text(f"article-{index:04d}", "prose", list(map(int, ids[:n_tokens])), range(1, n_tokens)))
        if len(texts) == n:
            return texts
    raise ArgumentError(
        f"Only {len(texts)} articles have {n_tokens} tokens: use fewer --n-passages or shorter --passage-tokens."
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


# ---------------------------------------------------------------------- measured


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
    mass = recording["mass_on"][list(model.geometry.layers), 0].double()
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
            "context": text.context,
            "region": region,
            "text_id": text.id,
            "layer": np.array(model.geometry.layers)[layer],
            "head": head,
            "token_group": np.array(TOKEN_GROUPS)[group],
            "mass": mass.sum(dim=2).flatten().numpy(),
            "even_mass": even.sum(dim=2).flatten().numpy(),
            "first_mass": first.sum(dim=2)[..., None].expand(-1, -1, groups).flatten().numpy(),
            "n_queries": len(text.queries),
        }
    )


# ---------------------------------------------------------------------- summed over texts


def heads_of(rows: pd.DataFrame) -> list[Head]:
    """Returns the head of each row."""
    return [(int(layer), int(head)) for layer, head in zip(rows["layer"], rows["head"], strict=True)]


class Masses:
    """The table `class_mass` of one context and region as arrays: [text, head, class]."""

    def __init__(self, rows: pd.DataFrame) -> None:
        ordered = rows.assign(part=rows["token_group"].map(TOKEN_GROUPS.index)).sort_values(
            ["text_id", "layer", "head", "part"], ignore_index=True
        )
        heads = ordered[["layer", "head"]].drop_duplicates()
        self.heads: list[Head] = heads_of(heads)
        self.n_texts = ordered["text_id"].nunique()
        shape = (self.n_texts, len(self.heads), len(TOKEN_GROUPS))
        self.mass, self.even, self.first = (
            ordered[name].to_numpy(dtype=float).reshape(shape) for name in ("mass", "even_mass", "first_mass")
        )
        self.n_queries = ordered["n_queries"].to_numpy(dtype=float).reshape(shape)

    def of(self, heads: Sequence[Head], group: str) -> "Sums":
        """Returns a group's sums per text over some heads; a head that is named twice counts twice."""
        index = [self.heads.index(head) for head in heads]
        parts = PARTS[group]
        return Sums(
            self.mass[:, index][..., parts].sum(axis=(1, 2)),
            self.even[:, index][..., parts].sum(axis=(1, 2)),
            self.mass[:, index].sum(axis=(1, 2)),
            self.first[:, index, 0].sum(axis=1),
            self.n_queries[:, index, 0].sum(axis=1),
        )


class Sums:
    """Sums per text: mass and even mass on a group, mass on all classes and on the first position, and all attention."""

    def __init__(self, mass: Array, even: Array, total: Array, first: Array, attention: Array) -> None:
        self.mass, self.even, self.total, self.first, self.attention = mass, even, total, first, attention

    def lift(self, weights: Array) -> Array:
        """Returns mass / even mass for each row of text weights [draw, text]; NaN where nothing is there to look at."""
        even = weights @ self.even
        return np.divide(weights @ self.mass, even, out=np.full(len(weights), np.nan), where=even > 0)


def share_of(part: Array, whole: Array) -> float:
    """Returns what share the parts are of the whole, over all texts; NaN where the whole is nothing."""
    return float(min(1.0, part.sum() / whole.sum())) if whole.sum() > 0 else float("nan")
