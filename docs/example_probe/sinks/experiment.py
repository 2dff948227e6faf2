"""Which heads park their attention on the first token? Imports no torch."""

from dataclasses import dataclass
from typing import ClassVar

from interp.experiments import Count, Experiment, Finding, WorkUnit


@dataclass(frozen=True, kw_only=True)
class AttentionSinks(Experiment):
    """Which heads park their attention on the first token?"""

    name: ClassVar[str] = "attention_sinks"
    summary: ClassVar[str] = "heads that attend to the first token, whatever it is"
    paper: ClassVar[str] = (
        "Xiao et al. 2024, Efficient Streaming Language Models with Attention Sinks, arXiv:2309.17453"
    )
    schema_version: ClassVar[int] = 2

    passages: Count = 6
    """Passages of news prose."""
    passage_tokens: Count = 64
    """Length of a passage, in tokens."""

    def schemas(self):
        """Returns the columns of the mean weights per head and passage, and of their difference over passages."""
        from interp.estimates import ESTIMATE
        from interp.tables import schema_of

        head = {"layer": int, "head": int}
        weights = schema_of("PassageWeights", passage_id=str, **head, first=float, second=float)
        return {"passage_weights": weights, "head_sinks": schema_of("HeadSinks", **head, **ESTIMATE)}

    def plan(self, facts, measured):
        """Returns one unit per passage."""
        return [WorkUnit(f"passage-{number:03d}") for number in range(self.passages)]

    def measure(self, model, unit):
        """Returns one row per head of a passage: every query from the third token on looks at the first two."""
        import numpy as np
        import pandas as pd
        import torch

        from interp.models.language.recording import WeightAt
        from interp.stimuli.prose import news_articles

        text = news_articles()[int(unit.id.removeprefix("passage-"))]
        ids = model.tokenizer(text)["input_ids"][: self.passage_tokens]
        queries = torch.arange(2, len(ids))[None]
        with model.record(queries, WeightAt(torch.tensor([0, 1]).expand(1, queries.shape[1], 2))) as recording:
            model.prefix(ids)
        weights = recording["weight_at"][:, 0].mean(dim=2)  # [layer, row, head, query, key] to [layer, head, key]
        layer, head = np.indices(weights.shape[:2]).reshape(2, -1)
        first, second = weights.flatten(0, 1).T.numpy()
        heads = pd.DataFrame({"layer": layer, "head": head, "first": first, "second": second})
        return {"passage_weights": heads.assign(passage_id=unit.id)}

    def summarise(self, facts, measured):
        """Returns how much more each head looks at the first than at the second token; passages are resampled."""
        from interp.estimates import estimates

        by, weights = ["layer", "head"], measured["passage_weights"]
        return {"head_sinks": estimates(weights, by, "first", minus="second", over="passage_id", seed=self.seed)}

    def figures(self, tables):
        """Returns a layer × head map."""
        import plotly.graph_objects as go

        from figures.style import SEQUENTIAL, styled

        grid = tables["head_sinks"].pivot(index="layer", columns="head", values="value")
        figure = go.Figure(go.Heatmap(z=grid, x=grid.columns, y=grid.index, colorscale=SEQUENTIAL, zmin=0, zmax=1))
        caption = "Attention on the first token minus attention on the second, mean over queries and passages."
        return {"sinks": styled(figure, title="Attention sinks", caption=caption)}

    def findings(self, tables):
        """Returns the strongest head."""
        layer, head, value, low, high, *_ = tables["head_sinks"].sort_values("value").iloc[-1][1:]
        return [Finding(f"Strongest sink: head {layer}-{head}, {value:.2f} [{low:.2f}, {high:.2f}] beyond the second.")]
