"""Is a model good enough to experiment with? `python -m training.shapes.accept FOLDER` draws captions it was not trained on.

Everything goes the way of the experiments: the folder is loaded by name, texts are encoded, pictures drawn from seeds, and the
pixel judge reads them. The judge's own error is measured on rendered pictures of the same scenes.
"""

import sys
import time
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from interp.models.image.model import ImageModel
from interp.models.loading.image import load_image
from interp.statistics import wilson_interval
from probes.t2i_flow.judges import is_exact, pairing_wrong, read_scene
from probes.t2i_flow.scenes import (
    COLOURS,
    N_CELLS,
    SENSES,
    Scene,
    Split,
    caption,
    item_named,
    render,
    sample_scene,
    sample_scenes,
    split_of,
)

N_SCENES = 400
FIRST_SEED = 50_000


class Share(NamedTuple):
    """How many of n pictures are as they should be (or, for errors, as they should not)."""

    what: str
    n_right: int
    n: int


class Seconds(NamedTuple):
    """How long something took by the clock, and how long processors worked on it, all threads together."""

    elapsed: float
    processor: float


def measure(name: str, n_scenes: int = N_SCENES) -> tuple[list[Share], Seconds]:
    """Returns the acceptance of a model, and the seconds that 16 pictures take."""
    model = load_image(name, dtype="float32")
    rng = np.random.default_rng(20_000)
    found = []
    for arity, number in ((1, "one object"), (2, "two objects")):
        scenes = different_scenes(rng, n_scenes, arity, "unseen")
        found += _looked_at(number, scenes, draw(model, scenes))
        held_out = different_scenes(rng, n_scenes // 4, arity, "held_out")
        found.append(_exact(f"{number}, a combination held out of training", held_out, draw(model, held_out)))
    for title, scenes in sense_scenes().items():
        found.append(_exact(title, scenes, draw(model, scenes)))
    truth = sample_scenes(rng, n_scenes)
    rendered = [render(scene.items, rng.permutation(N_CELLS)[: len(scene.items)].tolist()) for scene in truth]
    found.append(_exact("rendered scenes that the judge reads right", truth, np.stack(rendered)))
    return found, seconds_of_sixteen(model)


def different_scenes(rng: np.random.Generator, n: int, arity: int, split: Split) -> list[Scene]:
    """Returns n random scenes with n different captions."""
    found: dict[str, Scene] = {}
    while len(found) < n:
        scene = sample_scene(rng, arity, split)
        found.setdefault(scene.text, scene)
    return list(found.values())


def draw(model: ImageModel, scenes: Sequence[Scene]) -> np.ndarray:
    """Returns one picture of each scene, each from a seed of its own."""
    seeds = range(FIRST_SEED, FIRST_SEED + len(scenes))
    return model.generate(model.encode([scene.text for scene in scenes]), model.noise(seeds), batch=50)


def sense_scenes(seeds: int = 4) -> dict[str, list[Scene]]:
    """Returns captions with the words of two senses: without context, with the context before, and with it after.

    Every caption is there once for each seed; combinations held out of training are not.
    """
    kinds: dict[str, list[Scene]] = {}
    for (noun, (plain, after_context, context)), colour, article in product(SENSES.items(), COLOURS, ("a", "the", "")):
        for title, word, before in (
            (f"a {noun} is a {plain}", None, False),
            (f"after {context!r} a {noun} is a {after_context}", context, True),
            (f"before {context!r} a {noun} is a {plain}", context, False),
        ):
            item = item_named(colour, noun, word if before else None)
            text = caption([item.phrase], [article], context=word, context_before=before)
            scene = Scene(text, (item,), word, before)
            if split_of(scene) != "held_out":
                kinds.setdefault(title, []).extend([scene] * seeds)
    return kinds


def seconds_of_sixteen(model: ImageModel) -> Seconds:
    """Returns the least of three timings of sixteen pictures, texts included."""
    scenes = sample_scenes(np.random.default_rng(1), 16, 2)
    timings = []
    for _ in range(3):
        started, worked = time.perf_counter(), time.process_time()
        draw(model, scenes)
        timings.append(Seconds(time.perf_counter() - started, time.process_time() - worked))
    return Seconds(min(one.elapsed for one in timings), min(one.processor for one in timings))


def _looked_at(number: str, scenes: Sequence[Scene], pictures: np.ndarray) -> list[Share]:
    """Returns the share that is exactly right and, of what is not, what is wrong with it."""
    exact = _exact(f"{number}, exactly right", scenes, pictures)
    pairs = list(zip(pictures, scenes, strict=True))
    counted = [len(read_scene(picture)) == len(scene.items) for picture, scene in pairs]
    shares = [exact, Share(f"{number}: as many as asked for", sum(counted), len(pairs))]
    if len(scenes[0].items) > 1:
        wrong = [pairing_wrong(picture, scene.items) for picture, scene in pairs]
        shares.append(Share(f"{number}: colours and shapes right, but paired wrongly", sum(wrong), len(pairs)))
    return shares


def _exact(what: str, scenes: Sequence[Scene], pictures: np.ndarray) -> Share:
    right = [is_exact(picture, scene.items) for scene, picture in zip(scenes, pictures, strict=True)]
    return Share(what, sum(right), len(right))


def as_table(measured: tuple[list[Share], Seconds]) -> str:
    """Returns the acceptance as a Markdown table."""
    shares, seconds = measured
    lines = ["| | share | 95% interval | n |", "|---|---|---|---|"]
    for what, n_right, n in shares:
        share = wilson_interval(n_right, n)
        lines.append(f"| {what} | {share.value:.1%} | {share.ci_low:.1%} to {share.ci_high:.1%} | {n} |")
    return "\n".join(
        [
            *lines,
            "",
            f"Sixteen pictures take {seconds.elapsed:.2f} s here, {seconds.processor:.2f} s of processor time.",
        ]
    )


def main() -> None:
    """Prints the acceptance of the model named on the command line."""
    if len(sys.argv) != 2:
        raise SystemExit("name one model or folder: python -m training.shapes.accept interp/models/trained/shapes-t2i")
    sys.stdout.write(as_table(measure(sys.argv[1])) + "\n")


if __name__ == "__main__":
    main()
