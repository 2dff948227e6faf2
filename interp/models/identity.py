"""What is known about a model without loading it. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

DtypeName = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class LoraIdentity:
    """Identifies a LoRA that was added to the weights of a text-to-image pipeline, by the sha256 of its file and its scale."""

    name: str
    source: str
    sha256: str
    scale: float


@dataclass(frozen=True)
class ModelIdentity:
    """Identifies the weights, so that they can be loaded again; `revision` is the hub's commit, or a sha256 of the file or folder.

    An adapter's `revision` is a sha256 over that of its files and that of its `base`, the model that it was trained on. With `loras`
    it is one over that of the `base` and all of them, with their scales.
    """

    name: str
    source: str
    revision: str
    dtype: DtypeName
    base: "ModelIdentity | None" = None
    loras: tuple[LoraIdentity, ...] = ()

    @property
    def is_local(self) -> bool:
        """Whether the weights are known by a sha256 of files on this machine, wherever they lie."""
        return Path(self.source).exists()


@dataclass(frozen=True)
class HeadGeometry:
    """How many heads a model has. Query head h reads the keys of key-value head h // group_size.

    Layers are numbered as in the model; `only_in` has the numbers of those that have heads, where not all of them have.
    """

    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    only_in: tuple[int, ...] | None = None

    @property
    def layers(self) -> tuple[int, ...]:
        """The numbers of the layers that have heads."""
        return tuple(range(self.n_layers)) if self.only_in is None else self.only_in

    @property
    def n_heads_in_all(self) -> int:
        """Heads of all layers together."""
        return len(self.layers) * self.n_heads

    @property
    def group_size(self) -> int:
        """Query heads that share one key-value head."""
        return self.n_heads // self.n_kv_heads

    def check_head(self, layer: int, head: int) -> None:
        """Raises IndexError for a head that is not there."""
        if not (0 <= layer < self.n_layers and 0 <= head < self.n_heads):
            raise IndexError(
                f"there is no head {layer}-{head}: layers go from 0 to {self.n_layers - 1} and heads from 0 to "
                f"{self.n_heads - 1}"
            )
        if layer not in self.layers:
            raise IndexError(
                f"there is no head {layer}-{head}: of the layers only {', '.join(map(str, self.layers))} have attention heads"
            )


@dataclass(frozen=True)
class ModelFacts:
    """Identity and size of a model. `geometry` is None without attention heads, `context_window` where nothing bounds it.

    `chat_date` is the day on which its chats take place, None where its chat template writes none.
    """

    identity: ModelIdentity
    model_type: str
    geometry: HeadGeometry | None
    context_window: int | None
    chat_date: str | None = None

    @property
    def name(self) -> str:
        """The name the model goes by in tables and folders."""
        return self.identity.name
