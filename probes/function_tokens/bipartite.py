"""The graph as networkx and GraphML, for graphs that fit in memory as one."""

from typing import TYPE_CHECKING, Any

import pandas as pd

from interp.errors import RunError
from interp.tables import Tables

if TYPE_CHECKING:
    import networkx as nx

MOST_EDGES = 1_000_000
"""networkx keeps some hundreds of bytes per edge."""


def build_graph(tables: Tables, dictionary: str) -> "nx.Graph[Any]":
    """Returns the bipartite graph of one dictionary: nodes t<token_id> and f<feature_id>, edges with their counts.

    Raises RunError above a million edges.
    """
    import networkx as nx

    edges = tables["edges"]
    edges = edges[edges["dictionary"] == dictionary]
    if len(edges) > MOST_EDGES:
        raise RunError(
            f"The graph of {dictionary} has {len(edges):,} edges, too many for GraphML: leave out --graphml and read tables/edges.parquet."
        )
    graph: nx.Graph[Any] = nx.Graph(dictionary=dictionary)
    degrees, profile = (_own(tables[name], dictionary) for name in ("token_degrees", "feature_profile"))
    rows: Any = degrees.itertuples()
    for row in rows:
        attributes = {"token": _legal(row.token), "token_class": row.token_class, "occurrences": row.occurrences}
        graph.add_node(f"t{row.token_id}", bipartite=0, **attributes)
    rows = profile.itertuples()
    for row in rows:
        graph.add_node(f"f{row.feature_id}", bipartite=1, occurrences=row.occurrences, density=row.density)
    names = ("token_id", "feature_id", "count", "activation_sum")
    for token, feature, count, mass in zip(*(edges[name].tolist() for name in names), strict=True):
        graph.add_edge(f"t{token}", f"f{feature}", count=count, activation_sum=mass)
    return graph


def graphml_files(tables: Tables) -> dict[str, str]:
    """Returns one GraphML text per dictionary, by file name."""
    import networkx as nx

    return {
        f"graph_{name.replace(':', '_').replace('/', '_')}.graphml": "\n".join(
            nx.generate_graphml(build_graph(tables, name))
        )
        for name in tables["edges"]["dictionary"].unique()
    }


def _own(table: pd.DataFrame, dictionary: str) -> pd.DataFrame:
    return table[table["dictionary"] == dictionary]


def _legal(text: str) -> str:
    """The text without the control signs that XML does not know."""
    return "".join(sign if sign >= " " or sign in "\t\n\r" else "\ufffd" for sign in text)
