"""A small experiment to try the runner with: how surprising are random texts to a tiny model?

Two waves: every text once, then the most surprising ones again, twice as long. Two experiments are installed for a test
by `install_plugin`, as a wing's package would: by an entry point that is found on the path.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from interp.errors import ArgumentError
from interp.experiments.catalogue import experiments
from interp.experiments.experiment import Experiment, Finding, WorkUnit
from interp.models.identity import ModelFacts

HOLD = "COUNTING_HOLDS_AT"
"""Names the unit at which a run says so on standard output and waits, for a test to kill it."""
FAIL = "COUNTING_FAILS_AT"
"""Names the unit whose measurement raises."""
AGAIN = 2
"""How many texts are read again."""
Call = Callable[..., tuple[int, str, str]]
"""What the fixture `call` gives."""


@dataclass(frozen=True)
class TextUnit(WorkUnit):
    """One random text."""

    n_tokens: int


@dataclass(frozen=True, kw_only=True)
class Counting(Experiment):
    """How surprising are random texts?"""

    name: ClassVar[str] = "counting"
    summary: ClassVar[str] = "surprisal of random texts, to try the runner"
    paper: ClassVar[str] = "Nobody 2024, On Counting, https://example.org/counting"
    schema_version: ClassVar[int] = 1
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "short": {"texts": 2, "tokens": 4},
        "long": {"texts": 9, "tokens": 40},
    }

    texts: int = 4
    """How many texts."""
    tokens: int = 6
    """Length of a text, in tokens."""
    note: str = ""
    """Words that go into every row and into the report."""
    depths: tuple[float, ...] = (0.5,)
    """Numbers that mean nothing."""
    sharing: bool = True
    """A switch that means nothing."""
    limit: int | None = 3
    """A number, or none, that means nothing."""
    words: Path | None = None
    """A file whose length is added to every row."""

    def __post_init__(self) -> None:
        if self.texts < 1:
            raise ArgumentError(f"--texts is too small ({self.texts}).")

    def schemas(self) -> Any:
        return _schemas()

    def input_files(self) -> Sequence[Path]:
        return [self.words] if self.words else []

    def plan(self, facts: ModelFacts, measured: Any) -> Sequence[WorkUnit]:
        first = [TextUnit(f"text-{index}", self.tokens) for index in range(self.texts)]
        means = measured["tokens"].query("~again").groupby("text_id")["surprisal_nats"].mean()
        return first if len(means) < self.texts else [*first, *self.most_surprising(means)]

    def most_surprising(self, means: Any) -> list[WorkUnit]:
        worst = means.sort_values(ascending=False, kind="stable").index[:AGAIN]
        return [TextUnit(f"again-{text_id}", 2 * self.tokens) for text_id in worst]

    def measure(self, model: Any, unit: Any) -> Any:
        import numpy as np
        import pandas as pd

        if os.environ.get(HOLD) == unit.id:
            sys.stdout.write(f"holding at {unit.id}\n")
            sys.stdout.flush()
            sys.stdin.read()
        if os.environ.get(FAIL) == unit.id:
            raise ValueError(f"nothing can be read in {unit.id}")
        ids = np.random.default_rng([self.seed, *unit.id.encode()]).integers(3, 97, unit.n_tokens).tolist()
        return {
            "tokens": pd.DataFrame(
                {
                    "model": model.identity.name,
                    "text_id": unit.id.removeprefix("again-"),
                    "again": unit.id.startswith("again-"),
                    "position": range(1, len(ids)),
                    "token_id": ids[1:],
                    "surprisal_nats": model.surprisal([ids])[0, 1:].tolist(),
                    "note": self.note,
                    "n_words": len(self.words.read_text().split()) if self.words else 0,
                }
            )
        }

    def summarise(self, facts: ModelFacts, measured: Any) -> Any:
        groups = measured["tokens"].groupby(["model", "text_id", "again", "note"], sort=False)["surprisal_nats"]
        return {"texts": groups.agg(mean_nats="mean", n="count").reset_index()}

    def figures(self, tables: Any) -> Any:
        from figures.style import drawn

        return {"surprisal": drawn(plot_surprisal, tables, "texts")}

    def findings(self, tables: Any) -> Sequence[Finding]:
        mean = tables["tokens"]["surprisal_nats"].mean()
        return [
            Finding(f"{self.texts} texts have {mean:.3f} nats per token. {self.note}"),
            Finding(f"The texts are random. {self.note}", "warning"),
        ]

    def documents(self, tables: Any) -> Mapping[str, str]:
        return {"texts.csv": tables["texts"].to_csv(index=False)}

    def read_foreign(self, path: Path) -> Any:
        if path.suffix != ".csv":
            return None
        import pandas as pd

        return {"texts": pd.read_csv(path)}

    def compare(self, runs: Any) -> Any:
        import pandas as pd
        import plotly.graph_objects as go

        means = [float(tables["texts"]["mean_nats"].mean()) for tables in runs.values()]
        table = pd.DataFrame({"run": list(runs), "mean_nats": means})
        return {"means": table}, {"means": go.Figure(go.Bar(x=table["run"], y=table["mean_nats"]))}


@dataclass(frozen=True, kw_only=True)
class Yardstick(Counting):
    """The same without need of attention heads; reads JSON files that say they are its own."""

    name: ClassVar[str] = "yardstick"
    summary: ClassVar[str] = "the same, for models without attention heads"
    needs_attention: ClassVar[bool] = False
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def read_foreign(self, path: Path) -> Any:
        if path.suffix != ".json" or '"yardstick"' not in path.read_text():
            return None
        import pandas as pd

        return {"texts": pd.DataFrame({"mean_nats": [1.0]})}


def plot_surprisal(texts: Any) -> Any:
    """Returns a bar for each text that was read once."""
    import plotly.graph_objects as go

    from figures.style import styled

    once = texts.query("~again")
    figure = go.Figure(go.Bar(x=once["text_id"] + " " + once["note"], y=once["mean_nats"]))
    return styled(figure, title="Surprisal", caption=f"Mean surprisal of each text. {once['note'].iloc[0]}")


@cache
def _schemas() -> Any:
    import pandera.pandas as pa

    from interp.tables import TableSchema

    class Tokens(TableSchema):
        text_id: str
        again: bool
        position: int
        token_id: int
        surprisal_nats: float = pa.Field(ge=0)
        note: str
        n_words: int

    class Texts(TableSchema):
        text_id: str
        again: bool
        note: str
        mean_nats: float
        n: int

    return {"tokens": Tokens, "texts": Texts}


def install_plugin(folder: Path) -> Path:
    """Installs both experiments wherever `folder` is on the path."""
    return install_package(
        folder, "counting", {kind.name: f"tests.counting:{kind.__name__}" for kind in (Counting, Yardstick)}
    )


def install_package(folder: Path, package: str, installed: Mapping[str, str]) -> Path:
    """Writes what an installed package with those experiments (name to module:class) leaves on the path; returns the folder."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    entries = [f"{name} = {place}" for name, place in installed.items()]
    (info / "entry_points.txt").write_text("\n".join(["[interp.experiments]", *entries, ""]))
    return folder


@contextmanager
def installed(*folders: Path) -> Iterator[None]:
    """The folders on the path, and what is installed in them known."""
    import pytest

    with pytest.MonkeyPatch.context() as patch:
        for folder in folders:
            patch.syspath_prepend(folder)
        experiments.cache_clear()
        yield
    experiments.cache_clear()


def environment(plugin: Path, **more: str) -> dict[str, str]:
    """Returns the environment of a subprocess in which both experiments are installed."""
    root = Path(__file__).parent.parent
    path = os.pathsep.join([str(plugin), str(root), os.environ.get("PYTHONPATH", "")])
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    return {**buffered, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}


def save_model(folder: Path, family: str = "llama", **changes: Any) -> Path:
    """Saves a tiny random model with a tokenizer of 97 words; equal arguments give equal files."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    from tests.tiny_models import VOCABULARY, tiny_hf

    tiny_hf(family, **changes).save_pretrained(folder)
    words = {"<pad>": 0, "<s>": 1, "</s>": 2, **{f"w{index}": index for index in range(3, VOCABULARY)}}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = Whitespace()  # type: ignore[assignment]
    special = dict(pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return folder
