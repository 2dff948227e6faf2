"""Which tokens find the right text (XTR): ranks of gold tokens by kind of query token, and documents by ways of scoring."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from interp.tables import empty
from probes.sequence_representation.pairs import Pair
from probes.sequence_representation.readers import Read, Reader, some_layers
from probes.sequence_representation.scores import first_ranks, late_scores, rank_of, unit
from probes.sequence_representation.settings import Settings
from probes.sequence_representation.tables import Documents, Tokens
from probes.sequence_representation.words import prose_sentences

LAYERS = 4
FUNCTION_SHARE = 0.4
"""Function tokens are the most frequent ones that make up this share (arXiv:2510.08203)."""
GOLD_SHARE = 0.8
"""A pair whose grade is so far up the scale that is used is a query and its document."""


def queries_of(pairs: Sequence[Pair]) -> list[Pair]:
    """Returns the pairs whose second text is what the first one should find."""
    grades = [pair.grade for pair in pairs]
    least = min(grades) + GOLD_SHARE * (max(grades) - min(grades))
    return [pair for pair in pairs if pair.grade >= least and pair.first != pair.second]


@dataclass(frozen=True)
class Collection:
    """All documents and queries as a reader's tokens: documents first, then queries."""

    texts: tuple[str, ...]
    n_documents: int
    reads: tuple[Read, ...]
    document: np.ndarray
    """Of each document token, the number of its document."""

    @classmethod
    def of(cls, reader: Reader, documents: Sequence[str], queries: Sequence[str]) -> "Collection":
        """Returns the texts encoded, each once."""
        texts = (*dict.fromkeys(documents), *dict.fromkeys(queries))
        n_documents = len(dict.fromkeys(documents))
        reads = tuple(reader.encode(text) for text in texts)
        lengths = [len(read.own) for read in reads[:n_documents]]
        return cls(texts, n_documents, reads, np.repeat(np.arange(n_documents), lengths))

    def ids(self, number: int) -> list[int]:
        """Returns a text's own ids."""
        return [self.reads[number].ids[place] for place in self.reads[number].own]


@dataclass(frozen=True)
class Search:
    """One query: its number, that of its document, and the documents among which it is sought."""

    pair: Pair
    query: int
    target: int
    searched: np.ndarray


def searches(gold: Sequence[Pair], pairs: Sequence[Pair], collection: Collection) -> list[Search]:
    """Returns the searches of all gold pairs.

    What else was made of a query's own sentence is left out of its search (a negation shares more words than what means the same),
    and so is the query itself.
    """
    document = {text: number for number, text in enumerate(collection.texts[: collection.n_documents])}
    query = {text: number for number, text in enumerate(collection.texts) if number >= collection.n_documents}
    of_cluster: dict[str, set[int]] = {}
    for pair in pairs:
        of_cluster.setdefault(pair.cluster, set()).add(document[pair.second])
    found = []
    for pair in gold:
        target = document[pair.second]
        left_out = (of_cluster[pair.cluster] | {document.get(pair.first, target)}) - {target}
        searched = np.setdiff1d(np.arange(collection.n_documents), [*left_out])
        found.append(Search(pair, query[pair.first], target, searched))
    return found


def retrieve(reader: Reader, pairs: Sequence[Pair], settings: Settings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns the tables `tokens` (a row for each layer and query token) and `documents` (for each layer, query and way to score).

    The documents are all second texts and some news sentences.
    """
    gold = queries_of(pairs)
    if not gold:
        return empty(Tokens), empty(Documents)
    distractors = prose_sentences(settings.distractors) if settings.distractors else []
    collection = Collection.of(reader, [*(pair.second for pair in pairs), *distractors], [pair.first for pair in gold])
    common = frequent_ids([collection.ids(number) for number in range(len(collection.texts))], FUNCTION_SHARE)
    layers = some_layers(reader.n_layers, LAYERS)
    read = zip(collection.reads, reader.states(collection.reads, layers), strict=True)
    states = [states[:, list(row.own)].astype(np.float64) for row, states in read]
    tokens: list[dict[str, Any]] = []
    documents: list[dict[str, Any]] = []
    todo = searches(gold, pairs, collection)
    for (place, layer), centred in product(enumerate(layers), (False, True)):
        here = [one[place] for one in states]
        centre = np.concatenate(here[: collection.n_documents]).mean(axis=0)
        vectors = [unit(one - centre if centred else one) for one in here]
        named = {"reader": reader.name, "layer": layer, "n_layers": reader.n_layers, "centred": centred}
        for search in todo:
            found = _of_search(reader, collection, vectors, search, common, settings)
            tokens += [{**named, **row} for row in found[0]]
            documents += [{**named, **row} for row in found[1]]
    return pd.DataFrame(tokens), pd.DataFrame(documents)


def _of_search(
    reader: Reader, collection: Collection, vectors: Sequence[np.ndarray], search: Search, common: frozenset[int], settings: Settings
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:  # fmt: skip
    searched = search.searched.tolist()
    is_searched = np.isin(collection.document, searched)
    document = collection.document[is_searched]
    similarity = vectors[search.query] @ np.concatenate([vectors[number] for number in searched]).T
    flat = np.array([id for number in searched for id in collection.ids(number)])
    about = {"query_id": search.pair.id, "cluster": search.pair.cluster, "kind": search.pair.kind}
    ids = collection.ids(search.query)
    tokens = _token_rows(reader, about, ids, flat, similarity, document == search.target, common)
    means = unit(np.stack([vectors[number].mean(axis=0) for number in (*searched, search.query)]))
    places = np.searchsorted(search.searched, document)
    target = int(np.searchsorted(search.searched, search.target))
    return tokens, _document_rows(about, similarity, places, means[:-1] @ means[-1], target, settings)


def _token_rows(
    reader: Reader, about: dict[str, Any], ids: list[int], flat: np.ndarray, similarity: np.ndarray, gold: np.ndarray,
    common: frozenset[int],
) -> list[dict[str, Any]]:  # fmt: skip
    ranks, best = first_ranks(similarity, gold), similarity.argmax(axis=1)
    return [
        {
            **about, "position": place, "token": token, "token_class": "function" if id in common else "content",
            "gold_rank": int(ranks[place]), "finds_itself": bool(flat[best[place]] == id), "is_in_gold": bool((flat[gold] == id).any()),
            "n_gold_tokens": int(gold.sum()), "n_tokens": len(flat),
        }
        for place, (id, token) in enumerate(zip(ids, reader.tokens(ids), strict=True))
    ]  # fmt: skip


def _document_rows(
    about: dict[str, Any], similarity: np.ndarray, document: np.ndarray, by_mean: np.ndarray, target: int, settings: Settings
) -> list[dict[str, Any]]:  # fmt: skip
    scores = {("all tokens", 0): late_scores(similarity, document, None, "imputed"), ("one vector", 0): by_mean}
    for k in settings.top_k:
        for missing in ("imputed", "zero"):
            scores[f"retrieved, {missing}", k] = late_scores(similarity, document, k, missing)
    rows = []
    for (scoring, k), found in scores.items():
        rank = rank_of(found, target)
        rows.append(
            {
                **about, "scoring": scoring, "top_k": k, "gold_rank": rank, "reciprocal_rank": 1 / rank, "is_first": rank == 1,
                "n_documents": len(found),
            }
        )  # fmt: skip
    return rows


def frequent_ids(rows: Sequence[Sequence[int]], share: float) -> frozenset[int]:
    """Returns the most frequent ids that together make up `share` of all."""
    counts = Counter(id for row in rows for id in row)
    total, found = 0, set()
    for id, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if total >= share * counts.total():
            break
        found.add(id)
        total += count
    return frozenset(found)
