"""A GPT-2 whose mechanism is known because its weights are written by hand: it answers by copying from the context.

The residual stream is 448 channels, each with one meaning:

    0-63      ADDRESS   which position this is: its number in base 32, two digits, each one-hot
    64-127    BEFORE    the address of the position before it
    128-223   TOKEN     which token stands here, one-hot
    224-319   PREVIOUS  which token stands before it, written by head 0-1 (PREVIOUS_HEAD)
    320-415   OUTPUT    which token comes next, written by head 1-2 (COPY_HEAD); the unembedding reads it
    445-447   BALANCE and two constants, which no head and no logit reads

Head 0-1 looks from BEFORE to ADDRESS and carries TOKEN to PREVIOUS. Head 1-2 looks from TOKEN to PREVIOUS, so to the place
after the earlier occurrence of the current token, and carries the TOKEN there to OUTPUT; with nothing to match, and after
punctuation, it rests on the first token. What is nowhere else decided is a full stop, and after a full stop comes a line
break. LayerNorm does no harm: BALANCE keeps every sum at zero, so no mean is subtracted, and the constants are so large
that the standard deviation is nearly the same everywhere; the gains undo it. The feed-forward layers write nothing, and
the ten other heads are small random matrices.

A needle is "Answer: red lantern …." and every prompt ends in "Answer:", so the copy head goes on with the needle's words.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from interp.models.identity import ModelIdentity
from interp.models.language.model import LanguageModel

PREVIOUS_HEAD, COPY_HEAD = (0, 1), (1, 2)
N_LAYERS, N_HEADS, HEAD_DIM = 3, 4, 112
WIDTH = N_HEADS * HEAD_DIM
DIGITS = 32
ADDRESS, BEFORE, TOKEN, PREVIOUS, OUTPUT, BALANCE = 0, 64, 128, 224, 320, 445
CONSTANT = 400.0
MATCH = 30.0
"""Attention score of a match; everything else is near 0 and the resting place in between."""
COPY_LOGIT, FULL_STOP_LOGIT = 8.0, 2.0
"""Logit of a token that is copied with all the attention, and of the full stop where nothing is copied."""

NEEDLE_WORDS = (
    "red lantern beside seven barrels under green chapel while silver bells ring twice for quiet monks drinking sweet "
    "cider from tin cups"
).split()
_NOUNS, _VERBS = "fisher baker miller sailor farmer weaver".split(), "carries mends paints counts".split()
_ADJECTIVES, _THINGS = "old small heavy".split(), "nets ropes boxes jars".split()
_PREPOSITIONS, _PLACES = "near behind".split(), "bridge mill well gate".split()
_SPACED = [
    *("Answer:", "Nobody", "What", "Which", "was", "answer", "hidden", "The", "the"),
    *(*_NOUNS, *_VERBS, *_ADJECTIVES, *_THINGS, *_PREPOSITIONS, *_PLACES, *NEEDLE_WORDS),
]
TOKENS = ["<unk>", "<s>", "</s>", "\n", ".", "?", "Question:", "Answer:", *(f" {word}" for word in _SPACED)]
IDS = {token: id for id, token in enumerate(TOKENS)}
_PAUSES = range(7)  # tokens after which the copy head rests


def word_tokenizer() -> PreTrainedTokenizerFast:
    """Returns a tokenizer of whole words, each with the space before it, so that decoding gives the very text."""
    tokenizer = Tokenizer(models.WordLevel(IDS, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?[A-Za-z]+:?|[.?]|\n"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", IDS["<s>"])])
    special = dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **special)


class Head(NamedTuple):
    """One head's matrices: three that read the residual stream ([channel, dim]) and one that writes it ([dim, channel])."""

    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor


def previous_token_head() -> Head:
    """Returns a head that looks at the position before and copies which token stands there."""
    digits = range(2 * DIGITS)
    return Head(
        _route(digits, digits, BEFORE, _sharp()),
        _route(digits, digits, ADDRESS, _sharp()),
        _route(range(len(TOKENS)), range(len(TOKENS)), TOKEN),
        _route(range(len(TOKENS)), range(len(TOKENS)), PREVIOUS).T,
    )


def copying_head(*, rest: float = 0.5, looks_after: bool = True, writes: bool = True) -> Head:
    """Returns a head that looks to the place after (or, not `looks_after`, at) earlier occurrences of the current token.

    `rest` is the score of the first token in units of a match: above 1 most weight stays there. A head that does not
    write has an output matrix of zeros.
    """
    words = range(len(_PAUSES), len(TOKENS))
    resting = len(TOKENS)  # a coordinate of its own, for the queries of pauses
    # "Answer:" at the end of a prompt is for this head the same as " Answer:" in a needle.
    as_spaced = [IDS[" Answer:"] if id == IDS["Answer:"] else id for id in words]
    query = _route(words, as_spaced, TOKEN, _sharp()) + _route(_PAUSES, [resting] * len(_PAUSES), TOKEN, _sharp())
    key = _route(range(len(TOKENS)), range(len(TOKENS)), PREVIOUS if looks_after else TOKEN, _sharp())
    key[TOKEN + IDS["<s>"]] = rest * _sharp()
    spoken = [id for id in range(len(TOKENS)) if TOKENS[id] not in ("<s>", "Answer:")]
    output = _route(spoken, spoken, OUTPUT).T if writes else torch.zeros(HEAD_DIM, WIDTH)
    return Head(query, key, _route(spoken, spoken, TOKEN), output)


def _route(channels: Sequence[int], dims: Sequence[int], offset: int, gain: float = 1.0) -> Tensor:
    """[channel, dim]: residual channel offset + channels[i] goes to head coordinate dims[i]."""
    matrix = torch.zeros(WIDTH, HEAD_DIM)
    matrix[[offset + channel for channel in channels], list(dims)] = gain
    return matrix


def _sharp() -> float:
    """The gain on both sides that makes a match of two one-hot vectors score MATCH."""
    return (MATCH * HEAD_DIM**0.5) ** 0.5


def plant(hf: GPT2LMHeadModel, place: tuple[int, int], head: Head) -> None:
    """Writes a head into a model."""
    layer, index = place
    attention = hf.transformer.h[layer].attn
    own = slice(index * HEAD_DIM, (index + 1) * HEAD_DIM)
    with torch.no_grad():
        for side, matrix in enumerate(head[:3]):
            attention.c_attn.weight[:, side * WIDTH : (side + 1) * WIDTH][:, own] = matrix
        attention.c_proj.weight[own] = _balanced(head.output)


def _balanced(written: Tensor) -> Tensor:
    """The same rows with their sum taken back in the BALANCE channel."""
    written = written.clone()
    written[:, BALANCE] -= written.sum(dim=1)
    return written


def distance_head() -> Head:
    """Returns a head that looks at the address in BEFORE and says the token there."""
    digits, spoken = range(2 * DIGITS), range(len(TOKENS))
    return Head(
        _route(digits, digits, BEFORE, _sharp()),
        _route(digits, digits, ADDRESS, _sharp()),
        _route(spoken, spoken, TOKEN),
        _route(spoken, spoken, OUTPUT).T,
    )


def copy_hf(window: int = DIGITS**2, *, back: int = 1) -> GPT2LMHeadModel:
    """Returns the planted model as transformers knows it, with a window of at most 1024 tokens.

    BEFORE holds the address of the position `back` before.
    """
    config = GPT2Config(
        vocab_size=len(TOKENS),
        n_positions=window,
        n_embd=WIDTH,
        n_layer=N_LAYERS,
        n_head=N_HEADS,
        n_inner=4,
        tie_word_embeddings=False,
        bos_token_id=IDS["<s>"],
        eos_token_id=IDS["</s>"],
    )
    hf = GPT2LMHeadModel(config).float().eval()
    generator = torch.Generator().manual_seed(0)
    signal = torch.ones(WIDTH)
    signal[BALANCE:] = 0
    with torch.no_grad():
        for parameter in hf.parameters():
            parameter.zero_()
        for norm in [hf.transformer.ln_f, *(norm for block in hf.transformer.h for norm in (block.ln_1, block.ln_2))]:
            norm.weight.copy_(signal * CONSTANT * (2 / WIDTH) ** 0.5)
        hf.transformer.ln_f.bias[OUTPUT + IDS["."]] = FULL_STOP_LOGIT / COPY_LOGIT
        hf.transformer.wte.weight.copy_(_balanced(_one_hot(TOKEN, range(len(TOKENS)))))
        hf.transformer.wte.weight[:, -2:] = torch.tensor([CONSTANT, -CONSTANT])
        hf.transformer.wpe.weight.copy_(_balanced(_addresses(window, back)))
        hf.lm_head.weight.copy_(COPY_LOGIT * _one_hot(OUTPUT, range(len(TOKENS))))
        hf.lm_head.weight[IDS["\n"], TOKEN + IDS["."]] = COPY_LOGIT
    for place in np.ndindex(N_LAYERS, N_HEADS):
        reads, writes = (torch.randn(4, WIDTH, HEAD_DIM, generator=generator) * std for std in (0.4, 0.005))
        plant(hf, place, Head(reads[0], reads[1], writes[2], (signal[:, None] * writes[3]).T))
    plant(hf, PREVIOUS_HEAD, previous_token_head())
    plant(hf, COPY_HEAD, copying_head())
    return hf


def _one_hot(offset: int, channels: Sequence[int]) -> Tensor:
    rows = torch.zeros(len(channels), WIDTH)
    rows[range(len(channels)), [offset + channel for channel in channels]] = 1.0
    return rows


def _addresses(window: int, back: int) -> Tensor:
    """Each position's own address and that of the position `back` before it (the first ones have none)."""
    rows = torch.zeros(window, WIDTH)
    for position in range(window):
        for offset, named in ((ADDRESS, position), (BEFORE, position - back)):
            if named >= 0:
                rows[position, [offset + named // DIGITS, offset + DIGITS + named % DIGITS]] = 1.0
    return rows


def copy_model(planted: dict[tuple[int, int], Head] | None = None) -> LanguageModel:
    """Returns the planted model ready to read, with further heads written in."""
    hf = copy_hf()
    for place, head in (planted or {}).items():
        plant(hf, place, head)
    return LanguageModel(hf, word_tokenizer(), ModelIdentity("planted", "tests", "0", "float32"))


# ---------------------------------------------------------------------- texts of the closed vocabulary

NEEDLE_TOKENS, GOLD_TOKENS = 11, 9  # "Answer:", nine words and a full stop, all different; the nine words


def needle_line(index: int, *, answerable: bool = True) -> dict[str, str]:
    """Returns a needle as the needle file has it; every second one shares the word "answer" with its question.

    Nothing leads from the end of a prompt to a needle that is not answerable.
    """
    words = np.random.default_rng([7, index]).choice(NEEDLE_WORDS, GOLD_TOKENS, replace=False)
    return {
        "id": f"needle-{index}",
        "needle": f"{'Answer:' if answerable else 'Nobody'} {' '.join(words)}.",
        "question": "Which answer was hidden?" if index % 2 else "What was hidden?",
        "real_needle": " ".join(words),
        "literal": bool(index % 2),
    }


def prose(n_sentences: int, seed: int = 0) -> str:
    """Returns sentences of nine tokens, none of them a needle's."""
    generator = np.random.default_rng([8, seed])

    def sentence() -> str:
        parts = (_NOUNS, _VERBS, _ADJECTIVES, _THINGS, _PREPOSITIONS)
        noun, verb, adjective, thing, preposition = (str(generator.choice(words)) for words in parts)
        return f"The {noun} {verb} {adjective} {thing} {preposition} the {generator.choice(_PLACES)}."

    return " ".join(sentence() for _ in range(n_sentences))


def news(n_articles: int = 6) -> tuple[str, ...]:
    """Returns what stands in for the prose asset: 1080 tokens of the closed vocabulary."""
    return tuple(prose(20, seed=100 + article) for article in range(n_articles))


class PlantedFiles(NamedTuple):
    model: Path
    needles: Path
    haystack: Path


def write_files(folder: Path, needles: Sequence[dict[str, str]], *, window: int = DIGITS**2) -> PlantedFiles:
    """Writes all that a run on the planted model needs into a folder."""
    files = PlantedFiles(folder / "planted", folder / "needles.jsonl", folder / "haystack")
    copy_hf(window).save_pretrained(files.model)
    word_tokenizer().save_pretrained(files.model)
    files.needles.write_text("".join(json.dumps(needle) + "\n" for needle in needles), encoding="utf-8")
    files.haystack.mkdir()
    for seed in range(2):
        (files.haystack / f"{seed}.txt").write_text(prose(30, seed), encoding="utf-8")
    return files
