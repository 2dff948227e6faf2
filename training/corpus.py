"""News prose as training material: a split by document, a tokenizer of its own, windows that never span two documents."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from interp.stimuli.prose import news_articles

END_OF_TEXT = "<|endoftext|>"
HELD_OUT_EVERY = 20
"""Every twentieth article is held out, the first included."""
ALPHABET = 80
"""Characters that have tokens of their own where others fall back to bytes."""
_FALLBACK = [f"<0x{byte:02X}>" for byte in range(256)]
POOL_WINDOWS = 256
"""Windows among which those of similar length are put into one batch."""


def split_articles() -> tuple[list[str], list[str]]:
    """Returns the articles to train on and those held out, in file order."""
    articles = news_articles()
    held_out = list(articles[::HELD_OUT_EVERY])
    return [text for index, text in enumerate(articles) if index % HELD_OUT_EVERY], held_out


def train_tokenizer(texts: Sequence[str], vocab_size: int, *, falls_back: bool = False) -> PreTrainedTokenizerFast:
    """Returns a BPE tokenizer trained on the texts: any word can be spelled, a text begins with END_OF_TEXT.

    Of bytes, as GPT-2's, or (`falls_back`) of characters as Llama 2's, where rare ones are spelled by bytes such as <0x0A>.
    """
    tokenizer = _characters(texts, vocab_size) if falls_back else _bytes(texts, vocab_size)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END_OF_TEXT} $A", special_tokens=[(END_OF_TEXT, tokenizer.token_to_id(END_OF_TEXT))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT)


def _bytes(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer: Any = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _characters(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    """The bytes are put in behind the training: the trainer would make them special tokens, which stand for no text."""
    learned = Tokenizer(models.BPE())
    apart = [pre_tokenizers.Punctuation("isolated"), pre_tokenizers.Digits(individual_digits=True)]
    learned.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always"), *apart]
    )
    n_others = 1 + len(_FALLBACK)
    trainer: Any = trainers.BpeTrainer(vocab_size=vocab_size - n_others, limit_alphabet=ALPHABET, show_progress=False)
    learned.train_from_iterator(texts, trainer)
    model = json.loads(learned.to_str())["model"]
    tokens = [END_OF_TEXT, *_FALLBACK, *sorted(model["vocab"], key=model["vocab"].__getitem__)]
    merges = [tuple(pair) for pair in model["merges"]]
    vocabulary = {token: id for id, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True))
    tokenizer.add_special_tokens([END_OF_TEXT])
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def cut_windows(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], window_tokens: int) -> list[list[int]]:
    """Returns each text, END_OF_TEXT on both sides, as windows whose first token is the last of the window before.

    So every token but a text's first is predicted exactly once, from at most `window_tokens` tokens of the same text.
    """
    encoded: Any = tokenizer(list(texts))["input_ids"]
    windows = []
    for ids in encoded:
        whole = [*ids, tokenizer.eos_token_id]
        windows += [whole[start : start + window_tokens + 1] for start in range(0, len(whole) - 1, window_tokens)]
    return windows


def plan_batches(lengths: Sequence[int], batch_tokens: int, rng: np.random.Generator) -> list[list[int]]:
    """Returns the windows of one epoch as batches of window numbers, in random order, each window once.

    A batch holds at most `batch_tokens` tokens, padding included (or a single longer window).
    """
    order = rng.permutation(len(lengths)).tolist()
    batches: list[list[int]] = []
    for first in range(0, len(order), POOL_WINDOWS):
        pool = sorted(order[first : first + POOL_WINDOWS], key=lambda window: lengths[window], reverse=True)
        while pool:
            fitting = max(1, batch_tokens // lengths[pool[0]])
            batches.append(pool[:fitting])
            pool = pool[fitting:]
    return [batches[index] for index in rng.permutation(len(batches))]


def pad_windows(windows: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "row token"], Int[Tensor, "row token"]]:
    """Returns input tokens and targets, padded on the right with 0 and with -100 (which the loss leaves out)."""
    width = max(map(len, windows)) - 1
    inputs = torch.tensor([[*window[:-1], *[0] * (width - len(window) + 1)] for window in windows])
    targets = torch.tensor([[*window[1:], *[-100] * (width - len(window) + 1)] for window in windows])
    return inputs, targets


def in_batches(windows: Sequence[list[int]], batch_tokens: int) -> Iterator[list[list[int]]]:
    """Yields all windows, longest first, as batches of at most `batch_tokens` padded tokens."""
    rest = sorted(windows, key=len, reverse=True)
    while rest:
        fitting = max(1, batch_tokens // len(rest[0]))
        yield rest[:fitting]
        rest = rest[fitting:]
