"""Tokenizers of every common kind, trained on a few sentences of all scripts of script_texts.

Training breaks ties by the order of a hash map, which differs from one process to the next, so the trained tokenizers are files:
`python -m tests.script_tokenizers` trains them anew.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tests.script_texts import SCRIPTS

ASKED = "Read the text below, then answer the question about it.\n\nQuestion: Answer: 0123456789 <|/>[]"
CORPUS = [
    ASKED,
    *(part for script in SCRIPTS.values() for part in (script.text, script.needle, script.question, script.wrong)),
]


TRAINED = Path(__file__).parent / "script_tokenizers"


def _read(name: str, **special: str) -> Any:
    tokenizer = Tokenizer.from_file(str(TRAINED / f"{name}.json"))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **special)


@cache
def byte_bpe() -> Any:
    """As GPT-2's: letters outside ASCII are two to four bytes."""
    return _read("byte_bpe", bos_token="<|end|>", eos_token="<|end|>")


def _train_byte_bpe() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, initial_alphabet=alphabet, special_tokens=["<|end|>"], show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


@cache
def byte_fallback() -> Any:
    """As Llama 2's: spaces become "▁", rare letters are bytes, <s> comes first."""
    return _read("byte_fallback", unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def _train_byte_fallback() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=400, limit_alphabet=90, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False
    )
    tokenizer.train_from_iterator([text.replace("\n", " ") for text in CORPUS], trainer)
    learnt = json.loads(tokenizer.to_str())["model"]
    vocabulary = learnt["vocab"] | {f"<0x{byte:02X}>": len(learnt["vocab"]) + byte for byte in range(256)}
    merges = [tuple(merge) for merge in learnt["merges"]]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", vocabulary["<s>"])])
    return tokenizer


@cache
def unigram() -> Any:
    """As T5's: likeliest pieces, "▁" for spaces, </s> in the vocabulary and behind every text."""
    return _read("unigram", unk_token="<unk>", pad_token="<pad>", eos_token="</s>")


def _train_unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=900, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator([*CORPUS, *"</s>"], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        "$A </s>", special_tokens=[("</s>", tokenizer.token_to_id("</s>"))]
    )
    return tokenizer


@cache
def word_piece() -> Any:
    """As multilingual BERT's (cased): words and their parts, Chinese letter by letter, no token for a space."""
    return _read("word_piece", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")


def _train_word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=1500, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


KINDS = (byte_bpe, byte_fallback, unigram, word_piece)
EXACT = (byte_bpe, byte_fallback)
"""Those whose tokens spell a text letter by letter, blanks included."""


def write() -> None:
    """Trains all of them and writes their files."""
    TRAINED.mkdir(exist_ok=True)
    for train in (_train_byte_bpe, _train_byte_fallback, _train_unigram, _train_word_piece):
        train().save(str(TRAINED / f"{train.__name__.removeprefix('_train_')}.json"))


if __name__ == "__main__":
    write()
