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
    for row in degrees.itertuples():
        graph.add_node(
            f"t{row.token_id}",
            bipartite=0,
            token=_legal(str(row.token)),
            token_class=row.token_class,
            occurrences=int(row.occurrences),
        )
    for row in profile.itertuples():
        graph.add_node(f"f{row.feature_id}", bipartite=1, occurrences=int(row.occurrences), density=float(row.density))
    graph.add_edges_from(
        (
            f"t{row.token_id}",
            f"f{row.feature_id}",
            {"count": int(row.count), "activation_sum": float(row.activation_sum)},
        )
        for row in edges.itertuples()
    )
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
