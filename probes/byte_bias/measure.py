"""From a model and prompts to the tables `places` and `continuations`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from interp.models.bytes import ByteModel
from interp.models.bytes.covers import combine
from interp.models.language.model import LanguageModel
from interp.models.tokens.encoding import beginning, encode_piece
from probes.byte_bias.scores import DEAD, FLOOR, beam, divergence_nats, healed, missed_share, total_log_mass
from probes.byte_bias.settings import Prompt, Settings


def measure_prompts(model: LanguageModel, prompts: Sequence[Prompt], settings: Settings) -> dict[str, pd.DataFrame]:
    """Returns the tables `places` (a row for each prompt, cut and way) and `continuations` (a row for each prompt and cut).

    Raises UserError for a tokenizer whose tokens do not spell bytes, or that rewrites a prompt.
    """
    of_bytes = ByteModel(model, tolerance=settings.tolerance)
    places, continuations = [], []
    for prompt in prompts:
        rows, rest = _of_prompt(of_bytes, prompt, settings)
        places += rows
        continuations += rest
    return {"places": pd.DataFrame(places), "continuations": pd.DataFrame(continuations)}


def _of_prompt(
    of_bytes: ByteModel, prompt: Prompt, settings: Settings
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    canonical, text, start = of_bytes.canonical, prompt.text, prompt.cuts[0]
    expected = of_bytes.expectations(text, start=start)
    reading = combine(text, start, len(canonical.lead), expected)
    whole = canonical.encode(canonical.lead + text)
    beams = {kept: beam(expected, canonical.lead + text, kept) for kept in settings.beam_covers}
    places, continuations = [], []
    for cut in prompt.cuts:
        n_bytes = len(canonical.lead) + cut
        typed = canonical.encode(canonical.lead + text[:cut])
        named = {
            "prompt_id": prompt.id, "domain": prompt.domain, "cut_bytes": cut, "prompt": text[:cut].decode()[-24:],
            "continuation": text[cut:].decode(), "is_token_border": whole[: len(typed)] == typed,
        }  # fmt: skip
        exact = np.exp(reading.log_p[cut - start])
        ways = {"exact": (exact, 0.0)} | {
            "naive" if off == 0 else f"heal {off}": (
                healed(expected, typed, n_bytes, off),
                missed_share(expected, typed, n_bytes, off),
            )
            for off in (0, *settings.heal_tokens)
        }
        mass = total_log_mass(expected, n_bytes)
        for kept, of_places in beams.items():
            p, log_mass = of_places.get(n_bytes, DEAD)
            ways[f"beam {kept}"] = (p, max(0.0, 1 - float(np.exp(log_mass - mass))))
        for way, (p, missed) in ways.items():
            places.append(
                {
                    **named, "way": way, "true_byte_nats": -float(np.log(max(p[text[cut]], FLOOR))),
                    "kl_nats": divergence_nats(exact, p), "missed_share": missed,
                    "n_covers": reading.n_covers[cut - start], "invalid_share": float(reading.invalid_share[cut - start]),
                }
            )  # fmt: skip
        exact_nats = -float(reading.log_p[np.arange(cut - start, len(text) - start), list(text[cut:])].sum())
        typed_nats = _typed_nats(of_bytes.model, typed, text[cut:].decode())
        end = len(canonical.lead) + len(text)
        covers_nats = total_log_mass(expected, n_bytes, raw=True) - total_log_mass(expected, end, raw=True)
        continuations.append(
            {
                **named, "typed_nats": typed_nats, "covers_nats": covers_nats, "exact_nats": exact_nats,
                "log10_ratio": (typed_nats - covers_nats) / float(np.log(10)),
            }
        )  # fmt: skip
    return places, continuations


def _typed_nats(model: LanguageModel, typed: Sequence[int], continuation: str) -> float:
    """-ln p of the tokens that the continuation has by itself, behind the prompt's own."""
    tokenizer: Any = model.tokenizer
    begin = beginning(tokenizer, "always")
    after = encode_piece(tokenizer, continuation, first=False).ids
    return float(model.surprisal([[*begin, *typed, *after]])[0, len(begin) + len(typed) :].sum())
