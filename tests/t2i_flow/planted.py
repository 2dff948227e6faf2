"""A text-to-image model whose mechanism is known, and a judge that can read its pictures.

The encoder writes what an item is (colour and shape) into the last token of its noun and into nothing else. It leaks in one way:
after the word "le" a circle is written as a square. It is causal: what comes later changes nothing. The denoiser paints a block
for every vector that says what to paint, wherever that vector stands.
"""

from collections.abc import Sequence

import numpy as np
import torch

from interp.models.identity import ModelIdentity
from interp.models.image.conditioning import Conditioning
from interp.models.image.families import family_of
from interp.models.image.heat_maps import HeatMaps
from interp.models.image.model import ImageModel
from probes.t2i_flow.judges import Verdict
from tests.tiny_pipelines import tiny_pipeline

COLOURS, SHAPES = ("red", "blue"), ("triangle", "circle", "square")
CONTEXT = "le"
CELL = 4


def blocks(colour: int, shape: int) -> tuple[slice, slice]:
    """Where the planted denoiser paints a colour and shape."""
    return slice(CELL * shape, CELL * (shape + 1)), slice(CELL * colour, CELL * (colour + 1))


class PlantedImages(ImageModel):
    """The tiny Stable Diffusion pipeline's tokenizer and names, with a planted encoder and denoiser."""

    def __init__(self) -> None:
        pipeline = tiny_pipeline("sd")
        kind = family_of("planted", type(pipeline).__name__)
        super().__init__(
            kind(pipeline), ModelIdentity("planted", "tests", "0", "float32"), {"steps": 2, "guidance": 1.0}
        )
        self.read: list[str] = []
        self.calls = 0

    def encode(self, texts: Sequence[str]) -> Conditioning:
        return Conditioning.stack([self._planted(text) for text in texts])

    def lens(self, text, layers, encoder=None, others=None):
        """The items enter in the layer before the last, as they look without context; the last one knows the context."""
        last = self.layers_taken["clip"]
        words = " ".join(word if word != CONTEXT else "a" for word in text.split(" "))
        states = {last: self._planted(text), last - 1: self._planted(words)}
        return Conditioning.stack([states.get(layer, self._planted("")) for layer in layers])

    def _planted(self, text: str) -> Conditioning:
        self.read.append(text)
        tokens = self.tokens(text)
        sequence = torch.zeros(1, len(tokens), 16)
        sequence[0, :, 5] = torch.tensor(
            [1.0 + token.token_id % 7 for token in tokens]
        )  # tells tokens apart, says nothing
        words = [(word, text.index(word)) for word in text.split()]
        for index, (word, start) in enumerate(words):
            if word not in SHAPES:
                continue
            shape = SHAPES.index(word)
            if word == "circle" and CONTEXT in [other for other, _ in words[:index]]:
                shape = SHAPES.index("square")
            last = max(t.position for t in tokens if t.role == "text" and start <= t.char_start < start + len(word))
            sequence[0, last, 0] = 1.0 + shape
            sequence[0, last, 1] = 1.0 + COLOURS.index(words[index - 1][0])
        return Conditioning(sequence, None, self._blocks)

    def generate(self, conditioning, noise, *, steps=None, guidance=None, batch=16, record: HeatMaps | None = None):
        self.calls += 1
        if record is not None:
            super().generate(conditioning, noise, steps=1, guidance=guidance, batch=batch, record=record)
        pictures = np.zeros((len(conditioning), 16, 16, 3), dtype=np.float32)
        for picture, row in zip(pictures, conditioning.sequence, strict=True):
            for vector in row:
                if vector[0] > 0 and vector[1] > 0:
                    picture[blocks(int(vector[1]) - 1, int(vector[0]) - 1)] = 1.0
        return pictures


def judge(picture: np.ndarray, descriptions: Sequence[str]) -> list[Verdict]:
    """Sees what the planted denoiser paints."""
    verdicts = []
    for description in descriptions:
        colour, shape = (names.index(word) for names, word in zip((COLOURS, SHAPES), description.split(), strict=True))
        painted = np.array([[picture[blocks(c, s)].mean() for s in range(3)] for c in range(2)]) > 0.5
        verdicts.append(
            Verdict(bool(painted[colour, shape]), bool(painted[colour].any()), bool(painted[:, shape].any()))
        )
    return verdicts


def failing_judge(picture: np.ndarray, descriptions: Sequence[str]) -> list[bool]:
    """Cannot see pictures in which nothing is painted."""
    if picture.max() == 0:
        raise ValueError("nothing to see")
    return [verdict.visible for verdict in judge(picture, descriptions)]


def bright(picture: np.ndarray, descriptions: Sequence[str]) -> list[bool]:
    """Says something of any picture, which differs between pictures."""
    return [bool(picture.mean() * 1000 % 2 < 1) for _ in descriptions]
