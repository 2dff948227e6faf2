"""The settings of the text-to-image flow experiment and what is refused of them. Imports nothing heavy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge

from interp.errors import ArgumentError
from interp.experiments.bounds import SOME, Count, CountOrNone, Hint, Share
from interp.experiments.experiment import OF_WEIGHTS, Experiment

PIXEL_JUDGE_SIDE = 16
JUDGE_MODELS = ("clipscore", "vlm")


@dataclass(frozen=True, kw_only=True)
class Settings(Experiment):
    """The fields of T2IFlow, with its presets and checks."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"seeds": 5, "pooled": "prompt", "parts": ("in_item", "inter_item", "repair")},
        "quick": {"n_prompts": 6, "n_items": 6, "seeds": 2},
    }

    model: str = "shapes-t2i"
    """Name of a text-to-image model, a Hugging Face id, or a folder that save_pretrained wrote."""
    lora: tuple[str, ...] = field(default=(), metadata=OF_WEIGHTS)
    """LoRA to add to the model's weights, PATH or PATH:SCALE; give several, or repeat this."""
    prompts: Path | None = None
    """Your own prompts, as JSON lines: {"text": …, "items": [{"phrase": …, "leaks": […]}, …]}."""
    n_prompts: Count = 24
    """Number of scenes of coloured shapes to generate when no prompts are given; two thirds of them contain a homonym."""
    n_items: Count = 16
    """Number of items whose tokens are tested one by one and in subsets, in the order in which the prompts name them."""
    seeds: Count = 4
    """Noise seeds, the same for all variants; repairs are measured on as many fresh seeds."""
    steps: Count | None = None
    """Denoising steps; by default the model's own number."""
    guidance: float | None = None
    """Guidance scale; by default the model's own."""
    height: int | None = None
    """Picture height in pixels; by default the model's own."""
    width: int | None = None
    """Picture width in pixels; by default the model's own."""
    parts: Annotated[tuple[Literal["in_item", "inter_item", "repair", "attention", "lens"], ...], SOME] = (
        "in_item",
        "inter_item",
        "repair",
        "attention",
        "lens",
    )
    """What to measure; repair needs in_item and inter_item, attention needs inter_item."""
    lens_layers: Annotated[int, Ge(2), Hint("the embeddings and the last layer")] = 9
    """Maximum number of text-encoder layers to draw pictures from, evenly spaced, including the embeddings and the last layer."""
    clean: Literal["empty", "pads"] = "empty"
    """What replaces the vectors of removed tokens: those of the encoded empty prompt, or of padding."""
    pooled: Literal["clean", "prompt"] = "clean"
    """Pooled vector (SDXL, SD3, FLUX) when only some tokens are kept. clean: that of --clean; prompt: that of the whole prompt, as
    the paper's code does for FLUX."""
    edit_blocks: Literal["encoder", "every"] = "encoder"
    """Where vectors are replaced. encoder: after the text encoder; every: again before every block of the denoiser, in
    families with joint attention such as SD3 and FLUX."""
    visible_share: Share = 0.5
    """A set of tokens counts as showing its item if at least this share of seeds shows it."""
    max_subsets: Count = 64
    """Maximum number of subsets per size for an item of more than six tokens; if there are more, a random sample is used."""
    repairs: Literal["chosen", "all"] = "chosen"
    """Which items to repair by pasting. chosen: those measured to leak; all: every item."""
    attention_scale: Annotated[float, Ge(0), Hint("0 hides the words, 1 changes nothing")] = 0.0
    """In the attention baseline, the factor on attention to the words around a leaking item; 0 hides them."""
    judge: str = "pixel"
    """Judge of the pictures: pixel (shapes only), clipscore:MODEL, vlm:MODEL, or your own module:function."""
    judge_threshold: float | None = None
    """Minimum score that counts as yes; by default 26 for clipscore and 0.5 for vlm."""
    judge_check: CountOrNone = 50
    """Number of rendered scenes to estimate the judge's error on (pixel judge, and other judges of shapes)."""
    attention_prompts: Count = 12
    """Number of prompts whose words are kept and removed one at a time, with attention recorded."""
    grid_prompts: CountOrNone = 4
    """Number of prompts and items whose pictures (first seed) are stored for the grids."""
    batch: Count = 32
    """Pictures generated at once; affects speed and memory, and numbers only by rounding."""

    def __post_init__(self) -> None:
        """Raises ArgumentError for values out of bounds, and for judges and parts that cannot be."""
        super().__post_init__()
        check_judge(self.judge)
        check_size(self.judge, self.height, self.width)
        needs = {"repair": {"in_item", "inter_item"}, "attention": {"inter_item"}}
        for part, needed in needs.items():
            if part in self.parts and not needed <= set(self.parts):
                raise ArgumentError(f"--parts {part} needs {' and '.join(sorted(needed))} too.")


def check_judge(name: str) -> None:
    """Raises ArgumentError for a name that cannot be a judge's: pixel, clipscore:MODEL, vlm:MODEL, module:function."""
    before, colon, after = name.partition(":")
    if name != "pixel" and not (colon and before and after):
        raise ArgumentError(
            f"There is no judge {name}: use pixel, clipscore:MODEL, vlm:MODEL, or module:function for one of your own."
        )


def check_size(judge: str, height: int | None, width: int | None) -> None:
    """Raises ArgumentError for pictures that have no size, or another one than the pixel judge reads."""
    for name, pixels in (("height", height), ("width", width)):
        if pixels is not None and pixels < 1:
            raise ArgumentError(f"--{name} must be at least 1 pixel.")
        if pixels not in (None, PIXEL_JUDGE_SIDE) and judge == "pixel":
            raise ArgumentError(
                f"The pixel judge reads pictures of {PIXEL_JUDGE_SIDE} × {PIXEL_JUDGE_SIDE} pixels: leave out --{name}, or choose "
                "another --judge."
            )
