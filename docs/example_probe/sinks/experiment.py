"""Which heads park their attention on the first token? Imports no torch."""

from dataclasses import dataclass
from typing import ClassVar

from interp.experiments import Experiment, Finding, WorkUnit


@dataclass(frozen=True)
class Passage(WorkUnit):
    """One passage of news prose."""

    number: int


@dataclass(frozen=True, kw_only=True)
class AttentionSinks(Experiment):
    """Which heads park their attention on the first token?"""

    name: ClassVar[str] = "attention_sinks"
    summary: ClassVar[str] = "heads that attend to the first token, whatever it is"
    paper: ClassVar[str] = (
        "Xiao et al. 2024, Efficient Streaming Language Models with Attention Sinks, arXiv:2309.17453"
    )
    schema_version: ClassVar[int] = 1

    passages: int = 6
    """Passages of news prose."""
    passage_tokens: int = 64
    """Length of a passage, in tokens."""

    def schemas(self):
        """Returns the schema of every table."""
        from sinks.tables import SCHEMAS

        return SCHEMAS

    def plan(self, facts, measured):
        """Returns one unit per passage."""
        return [Passage(f"passage-{number:03d}", number) for number in range(self.passages)]

    def measure(self, model, unit):
        """Returns the rows of one passage."""
        from sinks.tables import passage_weights

        return {"passage_weights": passage_weights(model, unit, self.passage_tokens)}

    def summarise(self, facts, measured):
        """Returns the mean of every head over passages."""
        from sinks.tables import head_sinks

        return {"head_sinks": head_sinks(measured["passage_weights"], self.seed)}

    def figures(self, tables):
        """Returns a layer × head map."""
        import plotly.graph_objects as go

        from figures.style import SEQUENTIAL, styled

        grid = tables["head_sinks"].pivot(index="layer", columns="head", values="beyond_second")
        figure = go.Figure(go.Heatmap(z=grid, x=grid.columns, y=grid.index, colorscale=SEQUENTIAL, zmin=0, zmax=1))
        caption = "Attention on the first token minus attention on the second, mean over queries and passages."
        return {"sinks": styled(figure, title="Attention sinks", caption=caption)}

    def findings(self, tables):
        """Returns the strongest head."""
        best = tables["head_sinks"].sort_values("beyond_second", ascending=False).iloc[0]
        interval = f"{best['beyond_second']:.2f} [{best['ci_low']:.2f}, {best['ci_high']:.2f}]"
        return [Finding(f"Strongest sink: head {best['layer']}-{best['head']}, {interval} beyond the second token.")]
