"""Measuring layer by layer: what an encoder's states after each of its layers show, of items alone and of items in prompts.

The diffusion lens of Toker et al. 2024, read by a judge, with tokens kept one by one as everywhere here: everything that is
not of the encoder, or not kept, is clean padding as the finished encoder has it.
"""

import numpy as np

from interp.models.image import ImageModel
from probes.t2i_flow.drawing import Cell, answers, draw
from probes.t2i_flow.plan import LensUnit
from probes.t2i_flow.prompts import Prompt
from probes.t2i_flow.roles import item_positions, roles
from probes.t2i_flow.settings import Settings
from probes.t2i_flow.variants import Encoded, Variant
from probes.t2i_flow.workbench import Tables, frame_of, judge_of, sampling_of


def measure_lens(settings: Settings, model: ImageModel, unit: LensUnit) -> Tables:
    """Returns `lens` of some texts: every encoder, every layer that is looked at, every seed, every question."""
    sampling, judge = sampling_of(settings), judge_of(settings)
    texts = [(prompt, True) for prompt in unit.alone] + [(prompt, False) for prompt in unit.prompts]
    rows = []
    for encoder, n_layers in model.layers_taken.items():
        layers = spread_layers(n_layers, settings.lens_layers)
        placed = [
            (layer, Cell(prompt, states, variant))
            for prompt, alone in texts
            for layer, states in zip(layers, _states(settings, model, prompt, encoder, layers), strict=True)
            for variant in lens_variants(model, prompt, alone=alone)
        ]
        pictures = draw(model, [cell for _, cell in placed], sampling)
        for (layer, cell), drawn in zip(placed, pictures, strict=True):
            labels = {
                "encoder": encoder,
                "layer": layer,
                "n_layers": n_layers,
                "depth_fraction": layer / n_layers,
                "token_role": cell.variant.role,
            }
            rows += [answer | labels for _, answer in answers(model, cell, drawn, sampling, judge)]
    return frame_of("lens", rows)


def spread_layers(n_layers: int, at_most: int) -> list[int]:
    """Returns layers from 0, the embeddings, to n_layers, evenly spaced where not all of them may be looked at."""
    return [int(layer) for layer in np.unique(np.linspace(0, n_layers, min(n_layers + 1, at_most)).round())]


def _states(settings: Settings, model: ImageModel, prompt: Prompt, encoder: str, layers: list[int]) -> list[Encoded]:
    """A prompt as the encoder has it after each of the layers, all that is not this encoder's being clean padding."""
    clean, text = model.clean(settings.clean), model.encode([prompt.text])
    states = model.lens(prompt.text, layers, encoder, clean)
    if settings.pooled == "prompt" and text.pooled is not None:
        states = states.with_pooled(text)
    return [Encoded(states.row(index), clean, {}, settings.pooled) for index in range(len(layers))]


def lens_variants(model: ImageModel, prompt: Prompt, *, alone: bool) -> list[Variant]:
    """Returns what is kept: of an item alone the whole text and its last token, of a prompt each item that can leak."""
    tokens = model.tokens(prompt.text)
    positions = item_positions(prompt, tokens)
    if not alone:
        return [Variant("item", "keep", positions[item.id], "item", item.id) for item in prompt.items if item.leaks]
    last = tuple(place for place, role in enumerate(roles(prompt, tokens)) if role == "last_token")
    return [Variant("full", "full", role="full"), Variant("tokens", "keep", last, "last_token", prompt.items[0].id)]
