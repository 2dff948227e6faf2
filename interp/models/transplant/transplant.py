"""A model under another tokenizer: shared tokens keep their rows, the others get rows made of their pieces'."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from interp.errors import ArgumentError, RunError, UserError
from interp.models.identity import ModelIdentity
from interp.models.language.model import LanguageModel
from interp.models.loading.language import without_progress_bars
from interp.models.tokens.encoding import token_texts
from interp.models.transplant.bits import Bits, bits_of
from interp.models.transplant.folder import write_folder
from interp.models.transplant.mixtures import Vocabulary, mixture, rebuilt_rows
from interp.models.transplant.rules import RULES, Rule
from interp.models.transplant.vocabularies import Match, match

RECORD = "transplant.json"
"""The file in the new folder that says where it comes from and what it costs."""


@dataclass(frozen=True)
class Transplanted:
    """A model with another vocabulary, and what that costs."""

    model: LanguageModel
    origin: ModelIdentity
    """What the model was before."""
    rule: Rule
    match: Match
    tried: Mapping[Rule, float]
    """Bits per byte by rule on the texts that the rule was chosen by; empty where it was given."""
    before: Bits
    after: Bits


def transplant(
    model: LanguageModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    rule: Rule | Literal["best"] = "best",
    choosing: Sequence[str],
    held_out: Sequence[str],
    say: Callable[[str], None] = lambda line: None,
) -> Transplanted:
    """Returns the model, changed in place, with the tokenizer's vocabulary. The rest of its weights stays as it is.

    Only the new tokenizer is taken from wherever it comes from, so the width of that model does not matter. "best" is the rule
    that costs fewest bits per byte on the texts `choosing`; bits are measured on `held_out`, which no choice depends on.
    Raises UserError for quantised weights, a second table of token embeddings, and tokens that cannot be turned into bytes.
    """
    _check_weights(model)
    found = match(model.tokenizer, tokenizer)
    before = bits_of(model, held_out)
    say(
        f"{len(found.shared)} tokens keep their rows, {len(found.pieces)} are made from pieces ({found.n_bare} have none)."
    )
    tables = _Tables.of(model)
    tables.resize(model, tokenizer)
    other = LanguageModel(model.hf, tokenizer, _renamed(model.identity))
    if model.verdicts is not None:
        other.obey(model.verdicts)
    rules: list[Rule] = [*RULES] if rule == "best" else [rule]
    tried: dict[Rule, float] = {}
    for one in rules:
        tables.fill(model, found, tokenizer, one)
        if len(rules) > 1:
            tried[one] = bits_of(other, choosing).per_byte().value
            say(f"  {one:<13} {tried[one]:.3f} bits per byte")
    best = min(tried, key=tried.__getitem__) if tried else rules[0]
    if best != rules[-1]:
        tables.fill(model, found, tokenizer, best)
    return Transplanted(other, model.identity, best, found, tried, before, bits_of(other, held_out))


def save(transplanted: Transplanted, out: Path, *, tokenizer_name: str) -> None:
    """Writes the model and its tokenizer as transformers' save_pretrained does, whole or not at all, with a record.

    Raises RunError where the folder cannot be written, or does not read back with the vocabulary that was put in.
    """
    model, tokenizer = transplanted.model, transplanted.model.tokenizer
    bits = {"before": transplanted.before.per_byte(), "after": transplanted.after.per_byte()}
    record = {
        "model": dataclasses.asdict(transplanted.origin),
        "tokenizer": tokenizer_name,
        "rule": transplanted.rule,
        "n_shared": len(transplanted.match.shared),
        "n_rebuilt": len(transplanted.match.pieces),
        "n_without_pieces": transplanted.match.n_bare,
        "bits_per_byte": {name: one._asdict() for name, one in bits.items()},
        "bits_per_byte_by_rule": dict(transplanted.tried),
    }

    def write(folder: Path) -> None:
        with without_progress_bars():
            model.hf.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / RECORD).write_text(json.dumps(record, indent=2), encoding="utf-8")
        _check_reads_back(folder, model)

    write_folder(out, write)


# ---------------------------------------------------------------------- tables of a model


@dataclass(frozen=True)
class _Tables:
    """What a model keeps for every token: input rows, output rows and output biases, as they were, by the new table's place."""

    old: Mapping[str, Tensor]
    vocabulary: Vocabulary

    @classmethod
    def of(cls, model: LanguageModel) -> "_Tables":
        embedding: Any = model.hf.get_input_embeddings()
        tokenizer = model.tokenizer
        rows = embedding.weight.data.clone()
        texts = token_texts(tokenizer)[: len(rows)]
        usable = torch.zeros(len(rows), dtype=torch.bool)
        usable[: len(texts)] = torch.tensor([bool(text) for text in texts])
        texts = [*texts, *[""] * (len(rows) - len(texts))]
        return cls(
            {name: table.data.clone() for name, table in _places(model).items()}, Vocabulary(rows, texts, usable)
        )

    def resize(self, model: LanguageModel, tokenizer: PreTrainedTokenizerBase) -> None:
        """Makes room for the new vocabulary, and names its special tokens in the configuration."""
        n_new = max(tokenizer.get_vocab().values()) + 1
        hf: Any = model.hf
        hf.resize_token_embeddings(n_new, mean_resizing=False)
        text = hf.config.get_text_config(decoder=True)
        for settings in (hf.config, text, hf.generation_config):
            for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
                if settings is not None:
                    setattr(settings, name, getattr(tokenizer, name))
        embedding = hf.get_input_embeddings()
        embedding.padding_idx = None
        hf.requires_grad_(False)

    def fill(self, model: LanguageModel, found: Match, tokenizer: PreTrainedTokenizerBase, rule: Rule) -> None:
        """Writes shared and rebuilt rows into every table."""
        ids = sorted(found.pieces)
        texts = token_texts(tokenizer, ids) if ids else []
        pieces = [found.pieces[id] for id in ids]
        mixed = None if rule == "random" or not ids else mixture(rule, pieces, texts, self.vocabulary)
        new, old = torch.tensor(sorted(found.shared)), torch.tensor([found.shared[id] for id in sorted(found.shared)])
        for name, table in _places(model).items():
            device = table.device
            if len(new):
                table.data[new.to(device)] = self.old[name][old.to(device)]
            if ids:
                rows = rebuilt_rows(rule, self.old[name], mixed, self.vocabulary, len(ids))
                table.data[torch.tensor(ids, device=device)] = rows.to(device)


def _places(model: LanguageModel) -> dict[str, Tensor]:
    """The tables with one entry for every token; tied ones once."""
    embedding, head = (model.hf.get_input_embeddings(), model.hf.get_output_embeddings())
    places = {"input": embedding.weight}  # type: ignore[union-attr]
    if head is not None and head.weight is not places["input"]:
        places["output"] = head.weight
    if head is not None and getattr(head, "bias", None) is not None:
        places["bias"] = head.bias
    return places  # type: ignore[return-value]


def _check_weights(model: LanguageModel) -> None:
    config: Any = model.hf.config
    text: Any = config.get_text_config(decoder=True)
    name = model.identity.name
    if getattr(config, "quantization_config", None) is not None or getattr(model.hf, "is_quantized", False):
        raise UserError(
            f"{name} holds quantised weights, whose rows cannot be replaced: name the model it was quantised from."
        )
    if getattr(text, "hidden_size_per_layer_input", None):
        raise UserError(f"{name} keeps a second table of token embeddings (per layer): name a model with one.")
    if not model.hf.get_input_embeddings().weight.is_floating_point():  # type: ignore[union-attr]
        raise UserError(f"{name} holds its embedding in whole numbers: name the model it was quantised from.")


def _check_reads_back(folder: Path, model: LanguageModel) -> None:
    from transformers import AutoConfig, AutoTokenizer

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    rows = int(model.hf.get_input_embeddings().weight.shape[0])  # type: ignore[union-attr]
    probe = "The transplant reads 12 words, and no more."
    if (
        config.get_text_config(decoder=True).vocab_size != rows
        or tokenizer(probe)["input_ids"] != model.tokenizer(probe)["input_ids"]
    ):  # type: ignore[operator]
        raise RunError("The written model does not read back as it was: its tokenizer cannot be saved by transformers.")


def _renamed(identity: ModelIdentity) -> ModelIdentity:
    return dataclasses.replace(identity, name=f"{identity.name}-transplanted")


def check_texts(texts: Sequence[str], n_choosing: int, n_held_out: int) -> tuple[list[str], list[str]]:
    """Returns texts to choose a rule by, and others to measure on.

    Raises ArgumentError where there are not enough.
    """
    if len(texts) < n_choosing + n_held_out:
        raise ArgumentError(
            f"{len(texts)} passages are fewer than the {n_choosing} to choose by and {n_held_out} to measure on: give more --texts."
        )
    return list(texts[:n_choosing]), list(texts[n_choosing : n_choosing + n_held_out])
