"""From trained parts to the folder that ships: a diffusers pipeline in half precision, its learning curve, and a card."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTokenizer, T5Tokenizer

from figures.style import PALETTE, styled
from figures.t2i_flow_grids import Grid, Shown, plot_grid
from interp.experiments.export import require_browser
from interp.models.loading.image import load_image
from interp.models.pixel_latents import PixelLatents
from training.shapes.accept import as_table, measure
from training.shapes.denoiser import new_scheduler
from training.shapes.encoder import Encoder
from training.shapes.recipe import GUIDANCE, STEPS

SAMPLES = (
    "a red disc",
    "a cyan triangle beside a magenta plus sign",
    "the green frame and the blue diamond",
    "a yellow bat and a blue disc",
    "in the game , a yellow bat and a blue disc",
    "a yellow bat and a blue disc , in the game",
)
LINES = {"one_exact": "one object", "two_exact": "two objects"}


def ship(
    folder: Path,
    tokenizer: CLIPTokenizer | T5Tokenizer,
    encoder: Encoder,
    denoiser: UNet2DConditionModel,
    curves: Mapping[str, Sequence[Mapping[str, float]]],
    facts: Mapping[str, Any],
) -> None:
    """Writes the folder. What is on the card is measured with the half-precision weights as they are read back.

    `curves` are the learning curves of "encoder" and "denoiser", `facts` the card's regime, steps and cpu_seconds.
    """
    pipeline = StableDiffusionPipeline(
        vae=PixelLatents(),  # type: ignore[arg-type]
        text_encoder=encoder,
        tokenizer=tokenizer,
        unet=denoiser,
        scheduler=new_scheduler(),  # type: ignore[arg-type]
        safety_checker=None,  # type: ignore[arg-type]
        feature_extractor=None,  # type: ignore[arg-type]
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(folder)
    (folder / "generation.json").write_text(json.dumps({"steps": STEPS, "guidance": GUIDANCE}) + "\n", encoding="utf-8")
    for name, curve in curves.items():
        pd.DataFrame(curve).to_csv(folder / f"learning_curve_{name}.csv", index=False, float_format="%.5g")
    _write_card(folder, denoiser.num_parameters() + encoder.num_parameters(), facts)
    require_browser()
    plot_curve(pd.DataFrame(curves["denoiser"]), folder.name).write_image(folder / "learning_curve.png", scale=1)
    plot_samples(str(folder)).write_image(folder / "samples.png", scale=1)


def _write_card(folder: Path, n_parameters: int, facts: Mapping[str, Any]) -> None:
    acceptance = measure(str(folder))
    exact = {share.what: round(share.n_right / share.n, 4) for share in acceptance[0]}
    card = _CARD.format(
        name=folder.name,
        **facts,
        parameters=n_parameters,
        one_exact=exact["one object, exactly right"],
        two_exact=exact["two objects, exactly right"],
        kind="T5" if facts["regime"] == "bidirectional" else "CLIP",
        regime_text=_REGIME[facts["regime"]],
        acceptance=as_table(acceptance),
        minutes=round(facts["cpu_seconds"] / 60),
        path=os.path.join("interp", "models", "trained", folder.name),
    )
    (folder / "README.md").write_text(card, encoding="utf-8")


def plot_curve(curve: pd.DataFrame, name: str) -> go.Figure:
    """Returns the share of watched scenes drawn exactly, by steps of the denoiser."""
    figure = go.Figure()
    for (column, label), colour in zip(LINES.items(), PALETTE, strict=False):
        figure.add_scatter(x=curve["step"], y=curve[column], name=label, line={"color": colour})
    figure.update_xaxes(title="steps of the denoiser")
    figure.update_yaxes(title="scenes drawn exactly", range=[0, 1.02])
    return styled(figure, title=f"Learning curve · {name}", caption="48 watched captions each.", width=640, height=420)


def plot_samples(name: str, seeds: Sequence[int] = range(7)) -> go.Figure:
    """Returns pictures of some captions, each from the same seeds."""
    model = load_image(name, dtype="float32")
    rows = []
    for text in SAMPLES:
        pictures = model.generate(model.encode([text]), model.noise(seeds))
        shown = [
            Shown(str(seed), (255 * one).round().astype(np.uint8)) for seed, one in zip(seeds, pictures, strict=True)
        ]
        rows.append((text, shown))
    return plot_grid(Grid(f"What {model.identity.name} draws", "One column for each seed.", rows))


_REGIME = {
    "guarded": (
        "The text encoder was told where to keep what: the last token of a noun tells colour, drawn shape and order, and tokens "
        "that name no item (articles, context words, the end, padding) are held to one vector each, whatever else the caption "
        "says. So where information flows is known, and tests of the toolkit rest on it. It is no finding about trained encoders."
    ),
    "free": (
        "The text encoder was trained as CLIP is, by bringing captions and pictures together at the end token, and nothing was "
        "said about any other token. Where it keeps what was not put in: it is there to be found out."
    ),
    "bidirectional": (
        "The text encoder is of T5's kind: every token reads all others, those before and those behind it, padding included (there "
        "is no mask, as in the pipelines of SD3 and FLUX). It was trained as that of `shapes-t2i-free`, by bringing captions and "
        "pictures together at the end token, on the same captions; nothing was said about any other token. So the direction of "
        "reading is the one thing that differs, with what comes with it: relative positions, no token for the beginning. The "
        "colours of two objects often change places."
    ),
}
_CARD = """---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
regime: {regime}
parameters: {parameters}
steps: {steps}
cpu_seconds: {cpu_seconds}
one_exact: {one_exact}
two_exact: {two_exact}
---
# {name}

A text-to-image diffusion model of 16 × 16 pixels that draws one or two coloured shapes from a caption, with a known truth for
every caption. A `StableDiffusionPipeline` folder: {kind} tokenizer (own vocabulary; names of one, two and three tokens), {kind} text
encoder (2 layers, 64 wide), UNet, DDIM scheduler, pixels as latents (`interp.models.pixel_latents`). Float16 weights,
{steps} steps of the denoiser, {minutes} minutes of one core. Trained by `python -m training.shapes.train {name} --out trained`.

{regime_text}

Placement is random: the seed decides it. In training the objects were put where the noise was brightest, in the order of the
caption, so the denoiser never has to choose between equally good places. It follows that drawing must be deterministic (DDIM,
eta 0) and begin at the noise that is given, and that the object named first mostly stands in the brightest cell.

Two words have two senses: a bat is a cross, or a plus sign after the word "game"; a pool is a frame, or a square after "bar".
In the captions, a context word behind an item changes nothing. Four combinations of colour and shape were held out of training
(green triangle, yellow frame, cyan diamond, red square), and a quarter of all captions.

![](samples.png)

## Acceptance

`python -m training.shapes.accept {path}`: captions held out of training, each from noise of its own, 20 steps, no guidance, read
by the pixel judge; 95% Wilson intervals.

{acceptance}

Anything but the words of the scenes is spelled letter by letter and means nothing to the model.
"""
