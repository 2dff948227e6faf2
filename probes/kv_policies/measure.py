"""Measuring one text: the prompt is read once, and what follows it once for every condition, as rows of batches."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.models.language.model import LanguageModel
from interp.retention.losses import Losses
from interp.retention.policies.catalogue import build
from interp.retention.simulate import PolicyEdit, ReadPrompt, Setting, read_prompt
from interp.stimuli.word_classes import CLASSES, token_classes
from interp.tables import empty
from probes.kv_policies.materials import Text, build_text
from probes.kv_policies.plan import Condition, TextUnit, batches, protection_sizes
from probes.kv_policies.settings import Settings
from probes.kv_policies.tables import KeptTokens

Frames = dict[str, pd.DataFrame]
SHOWN = ("needles-000", "lists-000")
"""Texts of which it is told what is kept of every token."""
N_DEPTHS = 5
"""Parts of a prompt by which it is told how much is kept."""


def measure_text(settings: Settings, model: LanguageModel, unit: TextUnit) -> Frames:
    """Returns the rows of one text under all conditions."""
    text = build_text(settings, model, unit.material, unit.number, unit.scope)
    built = [setting_of(settings, condition) for condition in unit.conditions]
    rotary = any(one.policy.needs_rotation for one in built)
    kinds = token_classes(_written(model, text.prompt))
    delimiters = [place for place, kind in enumerate(kinds) if kind == "delimiter"]
    read = read_prompt(model, text.prompt, rotary=rotary, seed=unit.number, delimiters=delimiters)
    tables: list[Frames] = []
    for rows in batches(model, len(built), len(text.continuation)):
        tables.append(
            _measure_rows(model, text, read, [built[row] for row in rows], [unit.conditions[row] for row in rows])
        )
    frames = {name: pd.concat([part[name] for part in tables], ignore_index=True) for name in tables[0]}
    return {**frames, "texts": _text_row(model, text)}


def setting_of(settings: Settings, condition: Condition) -> Setting:
    """Returns a condition as the simulation takes it."""
    n = settings.n_kept(condition.budget)
    first, last, spans = protection_sizes(settings, condition.protection, n)
    if condition.policy == "full":
        first, last, spans = 0, 0, False
    return Setting(build(condition.policy, condition.heads), n, first, last, spans)


def _measure_rows(
    model: LanguageModel, text: Text, read: ReadPrompt, settings: Sequence[Setting], conditions: Sequence[Condition]
) -> Frames:
    steps = tuple(place - 1 for place in text.scored)
    losses = Losses(steps, text.source, len(text.prompt))
    edit = PolicyEdit(model, read, settings, spans=[text.cue] if text.cue[1] else (), watchers=[losses])
    with model.hooks.opened(edit):
        rows = read.prefix.fork(len(settings))
        logits = model.extend(rows, [list(text.continuation)] * len(settings), logits="all")
    surprisals, is_top = token_losses(logits[:, list(steps)], [text.continuation[place] for place in text.scored])
    named = [{**_names(text), **_columns(condition)} for condition in conditions]
    return {
        "token_losses": _token_rows(text, named, surprisals, is_top),
        "kept": _kept_rows(named, losses, text),
        "head_losses": _head_rows(model, named, losses),
        "kept_classes": _class_rows(model, text, named, losses),
        "kept_depths": _depth_rows(named, losses),
        "kept_tokens": _kept_tokens(model, text, named, losses),
    }


def token_losses(
    logits: Float[Tensor, "row step vocabulary"], targets: Sequence[int]
) -> tuple[Float[Tensor, "row step"], Bool[Tensor, "row step"]]:
    """Returns -ln p of every target and whether it is the most likely token: the answer is written so exactly if all are."""
    wanted = torch.tensor(list(targets), device=logits.device)
    taken = torch.log_softmax(logits, dim=-1).gather(-1, wanted[None, :, None].expand(len(logits), -1, -1))
    return -taken.squeeze(-1).cpu(), (logits.argmax(dim=-1) == wanted).cpu()


def _names(text: Text) -> dict[str, Any]:
    return {"material": text.material, "scope": text.scope, "text_id": text.text_id}


def _columns(condition: Condition) -> dict[str, Any]:
    columns = asdict(condition)
    del columns["heads"]
    return columns


def _token_rows(text: Text, named: Sequence[dict[str, Any]], surprisals: Tensor, is_top: Tensor) -> pd.DataFrame:
    ids = [text.continuation[place] for place in text.scored]
    return pd.concat(
        [
            pd.DataFrame(
                {
                    **names,
                    "step": range(len(ids)),
                    "token_id": ids,
                    "surprisal_nats": surprisals[row].numpy(),
                    "is_top": is_top[row].numpy(),
                }
            )
            for row, names in enumerate(named)
        ],
        ignore_index=True,
    )


def _stacked(by_layer: dict[int, Tensor]) -> Tensor:
    """What was kept of the layers, [layer, row, …] on the CPU."""
    return torch.stack([by_layer[layer].cpu() for layer in sorted(by_layer)])


def _kept_rows(named: Sequence[dict[str, Any]], losses: Losses, text: Text) -> pd.DataFrame:
    kept, peak, by_token, lost = (_stacked(part) for part in (losses.kept, losses.peak, losses.by_token, losses.lost))
    source = by_token[..., slice(*text.source)]
    has_source = text.source[1] > 0
    return pd.DataFrame(
        [
            {
                **names,
                "mean_kept": float(kept[:, row].mean()),
                "peak_kept": float(peak[:, row].mean()),
                "n_keys": len(text.prompt) + len(text.continuation),
                "source_kept": float(source[:, row].mean()) if has_source else float("nan"),
                "lost_everywhere": float(lost[:, row].float().mean()) if has_source else float("nan"),
            }
            for row, names in enumerate(named)
        ]
    )


def _head_rows(model: LanguageModel, named: Sequence[dict[str, Any]], losses: Losses) -> pd.DataFrame:
    layers = sorted(losses.mass)
    parts = (losses.mass, losses.change, losses.overlap, losses.ratio)
    mass, change, overlap, ratio = (_stacked(part) for part in parts)
    n_heads = mass.shape[-1]
    return pd.concat(
        [
            pd.DataFrame(
                {
                    **names,
                    "layer": [layer for layer in layers for _ in range(n_heads)],
                    "head": list(range(n_heads)) * len(layers),
                    "mass_recovered": mass[:, row].flatten().clamp(0, 1).numpy(),
                    "output_change": change[:, row].flatten().numpy(),
                    "oracle_overlap": overlap[:, row].flatten().numpy(),
                    "stand_in_ratio": ratio[:, row].flatten().numpy(),
                }
            )
            for row, names in enumerate(named)
        ],
        ignore_index=True,
    )


def _class_rows(model: LanguageModel, text: Text, named: Sequence[dict[str, Any]], losses: Losses) -> pd.DataFrame:
    classes = token_classes(_written(model, text.prompt))
    kept = _stacked(losses.by_token).mean(dim=0)
    rows = []
    for kind in CLASSES:
        places = [place for place, one in enumerate(classes) if one == kind]
        if places:
            share = kept[:, places].mean(dim=1)
            rows += [
                {**names, "token_class": kind, "n_tokens": len(places), "kept_share": float(share[row])}
                for row, names in enumerate(named)
            ]
    return pd.DataFrame(rows)


def _depth_rows(named: Sequence[dict[str, Any]], losses: Losses) -> pd.DataFrame:
    """By fifth of the prompt."""
    parts = _stacked(losses.by_token).mean(dim=0).tensor_split(N_DEPTHS, dim=1)
    rows = [
        {**names, "depth_fraction": place / N_DEPTHS, "kept_share": float(part[row].mean())}
        for place, part in enumerate(parts)
        for row, names in enumerate(named)
    ]
    return pd.DataFrame(rows)


def _kept_tokens(model: LanguageModel, text: Text, named: Sequence[dict[str, Any]], losses: Losses) -> pd.DataFrame:
    if text.text_id not in SHOWN or text.scope != "context_only":
        return empty(KeptTokens).drop(columns="model")
    kept = _stacked(losses.by_token).mean(dim=0)
    written = _written(model, text.prompt)
    parts = [
        pd.DataFrame(
            {**names, "position": range(len(written)), "token": written, "kept_share": kept[row].clamp(0, 1).numpy()}
        )
        for row, names in enumerate(named)
        if names["head_set"] == "none"
    ]
    return pd.concat(parts, ignore_index=True) if parts else empty(KeptTokens).drop(columns="model")


def _written(model: LanguageModel, ids: Sequence[int]) -> list[str]:
    tokenizer: Any = model.tokenizer
    return [tokenizer.decode([token]) for token in ids]


def _text_row(model: LanguageModel, text: Text) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                **_names(text),
                "prompt_token_ids": list(text.prompt),
                "continuation_token_ids": list(text.continuation),
                "n_scored": len(text.scored),
                "source_start": text.source[0],
                "source_end": text.source[1],
            }
        ]
    )
