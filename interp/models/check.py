"""The check at load: a short text read in every way that the toolkit reads, against transformers' own eager attention.

Each way gets a verdict by name (interp.models.verdicts). What fails is refused where it is asked for, in one sentence, and
whatever does not need it stays usable. Two texts that begin alike are read; their logits where they are alike also show
whether the model sees the future, which no way of reading could put right.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.errors import RunError, UserError
from interp.models.architecture import output_projection
from interp.models.check_values import Compared, Plain, compare, plain_pass, plainly, spreads
from interp.models.language import LanguageModel
from interp.models.logit_directions import LogitDirections
from interp.models.logit_path import residuals_without_heads
from interp.models.prefix import Prefix
from interp.models.recording import AttentionRows, HeadOutputs, Weights
from interp.models.verdicts import WAYS_OUT, Verdict, Verdicts, keep_verdicts, kept_verdicts

N, COMMON = 12, 5
"""Tokens of each text, and how many of them both texts begin with."""

FOREIGN = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError, AssertionError, UserError)
"""What a family raises when it is read in a way that it was not written for."""


def check_at_load(model: LanguageModel) -> None:
    """Gives the model its verdicts: those kept of an earlier check of the same weights, or those of one made now.

    Raises RunError for a model that sees the future.
    """
    device = str(model.device)
    verdicts = kept_verdicts(model.identity, device)
    if verdicts is None:
        verdicts = check(model)
        keep_verdicts(model.identity, device, verdicts)
    model.obey(verdicts)


def check(model: LanguageModel) -> Verdicts:
    """Returns the verdicts on a model as it stands.

    A model that is not read right through the toolkit's attention call is handed back to transformers' own and read whole.
    Raises RunError for a model that sees the future.
    """
    texts = _texts(model)
    try:
        plain = plain_pass(model, texts)
    except FOREIGN as error:
        raise RunError(
            f"{model.identity.name} ({model.hf.config.model_type}) cannot be read by transformers itself ({_said(error)}): name another "
            "model."
        ) from error
    _check_causal(model, plain)
    if model.attention_modules:
        found = _check_with_heads(model, texts, plain)
        if found["reading"].refused is None:
            return Verdicts(found)
        model.let_go_of_heads(
            f"{model.identity.name} ({model.hf.config.model_type}) is not read right through this toolkit's attention call "
            f"({found['reading'].refused}), so its heads cannot be looked at: name another model."
        )
        plain = plain_pass(model, texts)
    return Verdicts(_check_without_heads(model, texts, plain), model.without_heads)


def _texts(model: LanguageModel) -> Int[Tensor, "two token"]:
    rows = model.hf.get_input_embeddings().weight.shape[0]
    n = min(N, model.context_window or N)
    first, second = ((torch.arange(n) * step + 11) % rows for step in (37, 53))
    return torch.stack([first, torch.cat([first[:COMMON], second[COMMON:]])])


def _check_causal(model: LanguageModel, plain: Plain) -> None:
    first, second = plain.logits[:, : COMMON - 1]
    error = compare([(first, second)], plain)
    if error.refused is not None and bool(plain.logits.isfinite().all()):
        raise RunError(
            f"{model.identity.name} ({model.hf.config.model_type}) sees the future: what it predicts changes with the tokens that come "
            "after (in its configuration this is use_bidirectional_attention, is_causal or is_decoder), so name a causal language model."
        )


def _verdict(way: Callable[[], Compared]) -> Verdict:
    try:
        compared = way()
    except FOREIGN as error:
        return Verdict(refused=_said(error))
    return Verdict(compared.refused, compared.error, compared.tolerance)


def _said(error: Exception) -> str:
    first_line = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else ""
    return (first_line if isinstance(error, UserError) else f"{type(error).__name__}: {first_line}")[:200]


# ---------------------------------------------------------------------- the ways of reading


def _check_with_heads(model: LanguageModel, texts: Tensor, plain: Plain) -> dict[str, Verdict]:
    n = texts.shape[1]
    kept: dict[str, Tensor] = {}

    def reading() -> Compared:
        with model.record(torch.arange(n)[None], Weights(n), HeadOutputs(), _mixed) as recording:
            rows = Prefix.empty(model.n_layers, 2, n)
            kept["logits"] = model.extend(rows, texts.tolist(), logits="all")
        for name in ("weights", "head_output", "mixed"):
            kept[name] = recording[name]
        return compare([(kept["logits"], plain.logits)], plain)

    verdicts = {"reading": _verdict(reading)}
    if verdicts["reading"].refused is not None:
        return verdicts | {name: Verdict(verdicts["reading"].refused) for name in WAYS_OUT if name != "reading"}
    verdicts["forks"] = _verdict(lambda: _forks(model, texts, plain))
    forks = verdicts["forks"].refused is None
    ways: dict[str, Callable[[], Compared]] = {
        "ragged": lambda: _ragged(model, texts, plain, over_trunk=forks),
        "padding": lambda: _padding(model, texts, plain),
        "heads": lambda: _heads(model, texts, plain, kept),
        "head_outputs": lambda: compare(_by_layer(kept["head_output"], plain.outputs(model)), plain),
        "edits": lambda: _edits(model, texts, plain),
    }
    verdicts |= {name: _verdict(way) for name, way in ways.items()}
    mixed = _verdict(lambda: compare(_by_layer(kept["mixed"], plain.outputs(model)), plain))
    if mixed.refused is not None:  # contributions take a head's output apart by the keys that it attends to
        verdicts["contributions"] = Verdict(
            "what enters the output projection is not attention times values: a gate or a norm stands between"
        )
    else:
        verdicts["contributions"] = _verdict(
            lambda: _contributions(model, texts[:1], kept["head_output"][:, :1], plain)
        )
    return verdicts


def _mixed(rows: AttentionRows) -> dict[str, Tensor]:
    """What the recorded weights make of the recorded values."""
    from interp.models.attention import mix_values

    return {"mixed": mix_values(rows.weights, rows.values.float())}


def _check_without_heads(model: LanguageModel, texts: Tensor, plain: Plain) -> dict[str, Verdict]:
    """Reading, forks and ragged rows of a model that is read whole; the rest has no heads to look at."""

    def whole() -> Compared:
        return compare([(model.extend(model.rows(2), texts.tolist(), logits="all"), plain.logits)], plain)

    verdicts = {
        "reading": _verdict(whole),
        "forks": _verdict(lambda: _forks(model, texts, plain)),
        "ragged": _verdict(lambda: _ragged(model, texts, plain, over_trunk=False)),
        "padding": Verdict(),  # its attention is transformers' own
    }
    reason = "its attention is left to transformers" if model.without_heads else "it has no attention heads"
    return verdicts | {name: Verdict(reason) for name in WAYS_OUT if name not in verdicts}


def _forks(model: LanguageModel, texts: Tensor, plain: Plain) -> Compared:
    """The common beginning read once, two continuations in two steps each."""
    first, second = texts.tolist()
    middle = (COMMON + len(first)) // 2
    trunk = model.rows(1, len(first))
    model.extend(trunk, [first[:COMMON]], logits="none")
    branches = trunk.fork(2)
    pairs = []
    for start, end in ((COMMON, middle), (middle, len(first))):
        found = model.extend(branches, [first[start:end], second[start:end]], logits="all")
        pairs.append((found, plain.logits[:, start:end]))
    return compare(pairs, plain)


def _ragged(model: LanguageModel, texts: Tensor, plain: Plain, *, over_trunk: bool) -> Compared:
    """Rows that stand at different places, alone and (where forks are right) over a shared beginning, in two steps each."""
    first, second = texts.tolist()
    n = len(first)
    courses = [(model.rows(2, n), [(0, n * 5 // 8, n), (0, COMMON - 1, n - 2)])]
    trunk = model.rows(1, n)
    if over_trunk:
        model.extend(trunk, [first[:COMMON]], logits="none")
        courses.append((trunk.fork(2), [(COMMON, n - 3, n - 1), (COMMON, COMMON + 2, n)]))
    pairs = []
    for rows, stops in courses:
        for step in (0, 1):
            spans = [(stop[step], stop[step + 1]) for stop in stops]
            read = [text[start:end] for text, (start, end) in zip((first, second), spans, strict=True)]
            found = model.extend(rows, read, logits="all")
            for row, (start, end) in enumerate(spans):
                pairs.append((found[row, : end - start], plain.logits[row, start:end]))
    return compare(pairs, plain)


def _padding(model: LanguageModel, texts: Tensor, plain: Plain) -> Compared:
    """One call of transformers' model with a row padded on the left and one padded on the right."""
    n = texts.shape[1]
    mask = torch.ones_like(texts)
    mask[0, : n // 3], mask[1, n - n // 3 :] = 0, 0
    tokens = texts.clone()
    tokens[0] = texts[0].roll(n // 3)
    tokens = tokens * mask
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    options = {"attention_mask": mask.to(model.device), "position_ids": positions.to(model.device)}
    with torch.no_grad():
        found = model.hf(input_ids=tokens.to(model.device), use_cache=False, **options).logits.float()
        with plainly(model):
            wanted = model.hf(input_ids=tokens.to(model.device), use_cache=False, **options).logits.float()
    real = mask.bool()
    return compare([(found[real], wanted[real])], plain)


# ---------------------------------------------------------------------- looking and changing


def _by_layer(found: Float[Tensor, "layer row head query dim"], wanted: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Pairs of what was recorded and what entered each projection, each layer on its own scale."""
    pairs = []
    for layer, entered in enumerate(wanted):
        heads = entered.unflatten(-1, (found.shape[2], -1)).transpose(1, 2).float().cpu()
        if heads.shape != found[layer].shape:
            raise UserError("a head's output has another size than its share of the output projection")
        spread = spreads(heads)
        pairs.append((found[layer] / spread, heads / spread))
    return pairs


def _heads(model: LanguageModel, texts: Tensor, plain: Plain, kept: dict[str, Tensor]) -> Compared:
    """Recorded rows against the weights of eager attention; without these, what the rows make of the values."""
    if plain.weights is None:
        return compare(_by_layer(kept["mixed"], plain.outputs(model)), plain)
    pairs = [(found, wanted.float().cpu()) for found, wanted in zip(kept["weights"], plain.weights, strict=True)]
    if any(found.shape != wanted.shape for found, wanted in pairs):
        raise UserError("eager attention has weights of another shape than those recorded")
    spread = spreads(torch.stack([wanted for _, wanted in pairs]))
    return compare([(found / spread, wanted / spread) for found, wanted in pairs], plain)


def _edits(model: LanguageModel, texts: Tensor, plain: Plain) -> Compared:
    """One head of every layer silenced by an edit, and by a hook on what enters the plain model's output projection."""
    geometry = model.geometry
    heads = [(layer, layer % geometry.n_heads) for layer in range(geometry.n_layers)]
    with model.edit_heads(heads, "zero"):
        found = model.extend(model.prefix(), texts[:1].tolist(), logits="all")

    def silence(head: int) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
        def hook(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            hidden = inputs[0].unflatten(-1, (geometry.n_heads, -1)).clone()
            hidden[..., head, :] = 0
            return (hidden.flatten(-2), *inputs[1:])

        return hook

    handles = [
        output_projection(model.attention_modules[layer]).register_forward_pre_hook(silence(head))
        for layer, head in heads
    ]
    try:
        with torch.no_grad(), plainly(model):
            wanted = model.hf(input_ids=texts[:1].to(model.device), use_cache=False).logits.float()
    finally:
        for handle in handles:
            handle.remove()
    return compare([(found, wanted)], plain)


def _contributions(
    model: LanguageModel,
    text: Int[Tensor, "one token"],
    outputs: Float[Tensor, "layer one head query dim"],
    plain: Plain,
) -> Compared:
    """Heads' contributions, added up over a layer, against the change when the layer's heads fall silent and all else is frozen."""
    directions = LogitDirections(model)
    targets = text.roll(-1, dims=1)
    with directions.watching_scales() as scales:
        model.extend(Prefix.empty(model.n_layers, 1, text.shape[1]), text.tolist(), logits="none")
    toward = directions.frozen(targets)
    norm = directions.final_norm
    pairs, rounding = [], 0.0
    layers = sorted({0, model.n_layers - 1})
    whole, silent = residuals_without_heads(model, text.to(model.device), layers)
    for layer, without in zip(layers, silent, strict=True):
        share = directions.to_head(layer, toward, through_norm=True).cpu()
        found = (outputs[layer] * share).double().sum(dim=(1, -1))[0]
        if layer in scales.after_attention:
            found = found / scales.after_attention[layer][0].cpu()
        found = found / scales.final[0][0].cpu()
        before, after = norm.scale(whole)[:, None], norm.scale(without)[:, None]
        with torch.no_grad():
            normed = [norm.module(residual).double() - norm.bias.double() for residual in (whole, without)]
        change = normed[0] - normed[1] * after / before
        wanted = (change * directions.unembedding(targets)[0].double()).sum(dim=-1).cpu() * directions.output_scale
        spread = spreads(wanted)
        pairs.append((found[:, None] / spread, wanted[:, None] / spread))
        rounded = (whole.double() * toward[0].double()).square().sum(dim=-1).sqrt() / before[:, 0]
        rounding = max(rounding, float(rounded.max()) * torch.finfo(model.hf.dtype).eps / spread)
    return compare(pairs, plain, rounding=8 * rounding)
