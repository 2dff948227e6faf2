"""The tuned lens: before the final norm, an affine map of each depth's states onto the last one's, of limited rank.

T(h) = h + h · down · up + bias, one for every depth but the last. A file holds the maps and whose they are: source and revision
of the weights, precision, and how good each map was on held-out text. It is no lens of any other weights or precision.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from interp.errors import ArgumentError
from interp.models.identity import ModelIdentity
from interp.models.language.model import LanguageModel
from interp.models.lens.lens import LogitLens
from interp.tables import write_aside

SHIPPED = Path(__file__).parents[1] / "lenses"
"""Folder of the lenses that come with the toolkit: <model>/<kind>.safetensors."""
FORMAT = "interp lens 1"
NAMED = {"kind", "source", "revision", "dtype", "held_out_nats"}
"""What a file says of its lens beside its format."""
Kind = Literal["tuned", "shuffled"]
"""shuffled: trained to say what the model says at other places of the text, so that it can learn frequency alone."""


@dataclass(frozen=True, eq=False)
class Translators:
    """The maps of all depths but the last."""

    down: Float[Tensor, "depth residual rank"]
    up: Float[Tensor, "depth rank residual"]
    bias: Float[Tensor, "depth residual"]

    def __call__(self, states: Float[Tensor, "*axes residual"], depth: int) -> Float[Tensor, "*axes residual"]:
        """Returns states of a depth as states of the last one, in float32."""
        down, up, bias = (part[depth].to(states.device).float() for part in (self.down, self.up, self.bias))
        states = states.float()
        return states + states @ down @ up + bias


class TunedLens(LogitLens):
    """Decodes states of any depth through the map trained for that depth; at the last depth it is the logit lens."""

    def __init__(self, model: LanguageModel, translators: Translators, kind: Kind = "tuned") -> None:
        """Raises what LogitLens raises, and ArgumentError for maps of another depth or width than the model's."""
        super().__init__(model)
        head: Any = self.head.head
        wanted = (self.n_depths - 1, head.weight.shape[1])
        if tuple(translators.bias.shape) != wanted:
            raise ArgumentError(
                f"This lens has maps for {' layers of width '.join(map(str, translators.bias.shape))}, and {model.identity.name} has "
                f"{' layers of width '.join(map(str, wanted))}: train one for it with python -m interp.models.lens.training."
            )
        self.translators = translators
        self.name = kind
        self.held_out_nats: dict[str, list[float]] = {}
        """Mean KL from the model's predictions on held-out text by depth, of this lens and of the logit lens."""

    @classmethod
    def load(cls, model: LanguageModel, path: str | Path) -> "TunedLens":
        """Returns the lens stored in a file.

        Raises ArgumentError for a file that is no lens or holds NaN, and for the lens of other weights or of another precision.
        """
        path = Path(path)
        if not path.is_file():
            raise ArgumentError(
                f"There is no lens {path}: name a file that python -m interp.models.lens.training has written."
            )
        try:
            with safe_open(path, framework="pt") as file:
                about = dict(file.metadata() or {})
                if about.get("format") != FORMAT or not about.keys() >= NAMED:
                    raise ArgumentError(
                        f"{path} is no lens of this toolkit: train one with python -m interp.models.lens.training."
                    )
                parts = [file.get_tensor(name) for name in ("down", "up", "bias")]
        except (SafetensorError, OSError) as error:
            raise ArgumentError(
                f"The lens {path} cannot be read ({str(error).splitlines()[0]}): train it again."
            ) from error
        check_identity(about, model.identity, str(path))
        if not all(bool(part.isfinite().all()) for part in parts):
            raise ArgumentError(f"The lens {path} holds numbers that are none (NaN or infinite): train it again.")
        lens = cls(model, Translators(*parts), about["kind"])  # type: ignore[arg-type]
        lens.held_out_nats = json.loads(about["held_out_nats"])
        return lens

    def logits(self, states: Float[Tensor, "*axes residual"], depth: int) -> Float[Tensor, "*axes vocabulary"]:
        """Returns the logits, in float32, of states after `depth` layers, through that depth's map."""
        if depth < self.n_depths - 1:
            self.check_depth(depth)
            states = self.translators(states, depth).to(states.dtype)
        return super().logits(states, depth)


def check_identity(about: Mapping[str, str], identity: ModelIdentity, name: str) -> None:
    """Raises ArgumentError unless a lens belongs to these weights in this precision.

    Folders are told apart by the sha256 of their files alone: they may have moved.
    """
    is_sha256 = len(identity.revision) == 64
    same = about["revision"] == identity.revision and (is_sha256 or about["source"] == identity.source)
    train = "train one for it with python -m interp.models.lens.training"
    if not same:
        raise ArgumentError(
            f"The lens {name} belongs to other weights ({about['source']} at {about['revision'][:12]}) than {identity.name} "
            f"({identity.source} at {identity.revision[:12]}): {train}."
        )
    if about["dtype"] != identity.dtype:
        raise ArgumentError(
            f"The lens {name} was trained in {about['dtype']} and {identity.name} is read in {identity.dtype}: use --dtype "
            f"{about['dtype']}, or {train} --dtype {identity.dtype}."
        )


def save_lens(
    path: Path, translators: Translators, identity: ModelIdentity, kind: Kind, facts: Mapping[str, Any]
) -> None:
    """Writes a lens of these weights in float16, in float32 what is too large for that.

    `facts` (held_out_nats, recipe) are written as JSON beside it.
    """
    whole = {name: getattr(translators, name).detach().cpu().contiguous() for name in ("down", "up", "bias")}
    tensors = {name: half if (half := part.half()).isfinite().all() else part.float() for name, part in whole.items()}
    about = {
        "format": FORMAT, "kind": kind, "model": identity.name, "source": identity.source, "revision": identity.revision,
        "dtype": identity.dtype, **{name: json.dumps(value) for name, value in facts.items()},
    }  # fmt: skip
    write_aside(path, lambda aside: save_file(tensors, aside, about))


def shipped_lens(identity: ModelIdentity, kind: Kind = "tuned") -> Path | None:
    """Returns the lens that ships with the toolkit for these weights in this precision, or None if there is none."""
    path = SHIPPED / identity.name / f"{kind}.safetensors"
    if not path.is_file():
        return None
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
    try:
        check_identity(about, identity, str(path))
    except ArgumentError:
        return None  # another model of that name, or another precision: there is none for this one
    return path
