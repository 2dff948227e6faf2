"""How far a judge can be trusted: its errors on rendered scenes, whose truth is known, and the pictures it failed on."""

from typing import Any

import numpy as np
import pandas as pd

from interp.statistics import wilson_interval
from probes.t2i_flow.judges import Judge, as_columns, ask
from probes.t2i_flow.scenes import COLOURS, N_CELLS, SHAPES, Item, render, sample_scenes


def judge_truth(judge: Judge, n: int, seed: int, model: str) -> list[dict[str, Any]]:
    """Returns the rows of `judge_truth`: what the judge says of n rendered scenes.

    It is asked for every item that is there, and for as many that are not: the item in another colour, which is not there
    either, and the colour in another shape.
    """
    rng = np.random.default_rng([seed, 7])
    rows = []
    for number, scene in enumerate(sample_scenes(rng, n)):
        picture = render(scene.items, [int(cell) for cell in rng.choice(N_CELLS, size=len(scene.items), replace=False)])
        there = {item.drawn for item in scene.items}
        absent = [item for item in _changed(rng, scene.items) if item.drawn not in there]
        questions = [" ".join(item.drawn) for item in (*scene.items, *absent)]
        answers = ask(judge, picture, questions)
        for place, (description, verdict) in enumerate(
            zip(questions, answers.verdicts or [None] * len(questions), strict=True)
        ):
            truth = int(place < len(scene.items))
            rows.append(
                {
                    "model": model,
                    "picture_id": f"truth-{number:03d}",
                    "item_id": description,
                    "asked": "own",
                    "description": description,
                    **as_columns(verdict),
                    "failure": answers.failure,
                    "truth": truth,
                }
            )
    return rows


def _changed(rng: np.random.Generator, items: tuple[Item, ...]) -> list[Item]:
    """Each item in another colour, and in another shape."""
    return [
        changed
        for item in items
        for changed in (
            Item(str(rng.choice([name for name in COLOURS if name != item.colour])), item.shape),
            Item(item.colour, str(rng.choice([name for name in SHAPES if name != item.shape]))),
        )
    ]


def judge_check(judge: str, truth: pd.DataFrame, variants: pd.DataFrame, model: str) -> pd.DataFrame:
    """Returns `judge_check`: errors on what is there and what is not, and failures on rendered and on drawn pictures."""
    known = truth.dropna(subset=["visible"])
    present, absent = known[known["truth"] == 1], known[known["truth"] == 0]
    picture = ["prompt_id", "part", "variant", "source_item", "kept_positions", "seed"]
    failed = variants.drop_duplicates(picture)["failure"] != ""
    truth_failed = truth.drop_duplicates("picture_id")["failure"] != ""
    counts = {
        "rendered items not seen": (len(present), int((present["visible"] == 0).sum())),
        "absent items seen": (len(absent), int((absent["visible"] == 1).sum())),
        "failed on rendered scenes": (len(truth_failed), int(truth_failed.sum())),
        "failed on drawn pictures": (len(failed), int(failed.sum())),
    }
    rows = []
    for check, (n, errors) in counts.items():
        interval = wilson_interval(errors, n)[:3] if n else (np.nan, np.nan, np.nan)
        rates = dict(zip(("error_rate", "ci_low", "ci_high"), interval, strict=True))
        rows.append({"model": model, "judge": judge, "check": check, "n": n, "errors": errors, **rates})
    return pd.DataFrame(rows)
