"""Writes the learning curve and the card that ship with a tuned lens, from the metadata in the lens file.

python -m interp.models.lens.training --out interp/models/lenses/smollm2-135m/tuned.safetensors
python -m interp.models.lens.training --kind shuffled --steps 20 --out interp/models/lenses/smollm2-135m/shuffled.safetensors
python -m training.lens interp/models/lenses/smollm2-135m
"""

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from safetensors import safe_open

from figures.style import styled
from interp.models.lens.tuned import FORMAT


def facts_of(path: Path) -> dict[str, Any]:
    """Returns what a lens's file says of itself."""
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
    if about.get("format") != FORMAT:
        raise ValueError(f"{path} is no lens of this toolkit")
    return {name: json.loads(text) if text[:1] in "{[" else text for name, text in about.items()}


def card_of(folder: Path) -> str:
    """Returns the card of a folder of lenses: whose they are, how they were trained, how good each depth is."""
    tuned = facts_of(folder / "tuned.safetensors")
    recipe, nats = tuned["recipe"], dict(tuned["held_out_nats"])
    control = folder / "shuffled.safetensors"
    about_control = ""
    if control.is_file():
        shuffled = facts_of(control)
        nats["shuffled"] = shuffled["held_out_nats"]["shuffled"]
        about_control = f"""
`{control.name}` is a control of the same rank, trained in {shuffled["recipe"]["steps"]} steps to say what the model says at another
place of the text: it can learn how frequent tokens are and nothing of the text.
"""
    rows = [
        f"| {depth} | {' | '.join(f'{value:.2f}' for value in values)} |"
        for depth, values in enumerate(zip(*nats.values(), strict=True))
    ]
    header = f"| layers passed | {' | '.join(nats)} |\n|---|{'---|' * len(nats)}"
    table = "\n".join([header, *rows])
    return f"""# Lenses of {tuned["model"]}

Affine maps of rank {recipe["rank"]} from the residual stream at each depth to the last one's, read out by the model's own final norm
and head. They belong to the weights `{tuned["source"]}` at `{tuned["revision"]}` in {tuned["dtype"]} and are refused for any other.

| | |
|---|---|
| trained on | the first {recipe["context_tokens"]} tokens of {recipe["windows"]} news articles of 2017 (the prose asset) |
| begun as | ridge regression of the last depth's states, cut to the rank |
| then | {recipe["steps"]} steps of Adam on the KL divergence over the whole vocabulary |
| a step | {recipe["tokens_per_step"]} tokens, each at every depth |
| processor time | {tuned["curve"][-1]["processor_seconds"] / 60:.1f} minutes of one core |
| size | {(folder / "tuned.safetensors").stat().st_size / 1e6:.1f} MB, float16 |
| held out | the first {recipe["context_tokens"]} tokens of {recipe["held_out_windows"]} other articles |
{about_control}
![learning curve](learning_curve.png)

KL divergence from the model's predictions on held-out text, nats per token:

{table}
"""


def write_card(folder: Path) -> None:
    """Writes learning_curve.csv, learning_curve.png and README.md into a folder of lenses."""
    curve = pd.DataFrame(facts_of(folder / "tuned.safetensors")["curve"])
    curve[["step", "nats"]].to_csv(folder / "learning_curve.csv", index=False, float_format="%.5g")
    figure = go.Figure().add_scatter(x=curve["step"], y=curve["nats"], mode="lines")
    figure.update_layout(xaxis_title="step", yaxis_title="KL from the model, mean over depths (nats)")
    caption = "Tokens of one step, at every depth."
    styled(figure, title="Learning curve of the tuned lens", caption=caption).write_image(
        folder / "learning_curve.png", scale=2
    )
    (folder / "README.md").write_text(card_of(folder), encoding="utf-8")


def main() -> None:
    """Does so for the folder named."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition(":")[0])
    parser.add_argument("folder", type=Path, help="folder that holds a tuned lens and its shuffled control")
    write_card(parser.parse_args().folder)


if __name__ == "__main__":
    main()
