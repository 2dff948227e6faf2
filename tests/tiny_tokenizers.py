"""Tokenizers small enough to check by hand, like GPT-2's, Llama 2's, and one word a token."""

import json
from functools import cache
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CHAT = (
    "{% for m in messages %}<|user|>{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
MERGES = [tuple(pair.split("+")) for pair in "n+d a+nd h+e _+t _t+he c+a ca+t _+cat _+and".split()]


def vocabulary(alphabet: list[str], merges: list[tuple[str, ...]]) -> dict[str, int]:
    tokens = ["<unk>", "<s>", "</s>", *alphabet, *map("".join, merges)]
    return {token: id for id, token in enumerate(dict.fromkeys(tokens))}


@cache
def byte_level(**special: str) -> Any:
    """A tokenizer like GPT-2's: a space is part of the word after it, any character is bytes; adds nothing by itself."""
    merges = [(a.replace("_", "Ġ"), b) for a, b in MERGES] + [("Ċ", "Ċ"), (".", "Ċ")]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary(alphabet, merges), merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    extra = ["<|user|>", "<|end|>", "<|assistant|>"]
    special = special or dict(bos_token="<s>", eos_token="</s>")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, extra_special_tokens=extra, **special)


@cache
def llama_like() -> Any:
    """A tokenizer like Llama 2's: puts a space before any text, keeps bytes for what it does not know, adds <s>."""
    merges = [(a.replace("_", "▁"), b) for a, b in [*MERGES, ("_", "a")]]
    alphabet = [f"<0x{byte:02X}>" for byte in range(256)] + list("▁abcdefghijklmnopqrstuvwxyz.")
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary(alphabet, merges), merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True
        )
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@cache
def word_level() -> Any:
    """97 words, one token each, and no special token."""
    tokenizer = Tokenizer(models.WordLevel({f"w{id}": id for id in range(97)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=CHAT)


# ---------------------------------------------------------------------- one of each kind, trained on given texts


def _trained(model: Any, trainer: Any, texts: tuple[str, ...], **parts: Any) -> Tokenizer:
    tokenizer = Tokenizer(model)
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _byte_level(texts: tuple[str, ...], *, prefix_space: bool = False, begin: str = "", **parts: Any) -> Any:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer = _trained(
        models.BPE(),
        trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, special_tokens=["<s>", "</s>"]),
        texts,
        **{"pre_tokenizer": pre_tokenizers.ByteLevel(add_prefix_space=prefix_space), **parts},
        decoder=decoders.ByteLevel(),
    )
    if begin:
        id = tokenizer.token_to_id(begin)
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{begin} $A", special_tokens=[(begin, id)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def _byte_fallback(texts: tuple[str, ...], **parts: Any) -> Any:
    """Merges of Latin, Cyrillic and Greek letters; every other character is bytes, as most are for Llama 2."""
    few = tuple("".join(sign if ord(sign) < 0x500 else " " for sign in text) for text in texts)
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = _trained(
        models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True),
        trainers.BpeTrainer(vocab_size=600, special_tokens=special),
        few,
        pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="first", split=True),
    )
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["id"] < 3]  # bytes are plain tokens
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.pre_tokenizer = None  # type: ignore[assignment]
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def _unigram(texts: tuple[str, ...], *, prepend: str = "always", **parts: Any) -> Any:
    tokenizer = _trained(
        models.Unigram(),
        trainers.UnigramTrainer(vocab_size=900, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>"),
        texts,
        pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme=prepend, split=True),
        decoder=decoders.Metaspace(prepend_scheme=prepend, split=True),
        **parts,
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def _t5(texts: tuple[str, ...]) -> Any:
    """Drops what blanks there are beyond one, and writes nothing before a text but </s> after it."""
    tokenizer = _trained(
        models.Unigram(),
        trainers.UnigramTrainer(vocab_size=900, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>"),
        texts,
        pre_tokenizer=pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]),
        decoder=decoders.Metaspace(),
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>", pad_token="<pad>")


def _word_piece(texts: tuple[str, ...], normalizer: Any = None) -> Any:
    """Lower-cases, takes marks off letters and keeps no blanks."""
    tokenizer = _trained(
        models.WordPiece(unk_token="[UNK]"),
        trainers.WordPieceTrainer(vocab_size=600, special_tokens=["[UNK]", "[CLS]", "[SEP]"]),
        texts,
        normalizer=normalizer or normalizers.BertNormalizer(),
        pre_tokenizer=pre_tokenizers.BertPreTokenizer(),
        decoder=decoders.WordPiece(),
    )
    special = [("[CLS]", 1), ("[SEP]", 2)]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")


_AS_LLAMA_3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _split(pattern: str) -> Any:
    """What the pattern matches apart from what it does not, then bytes."""
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex="?i:" not in pattern),
        ]
    )


KINDS: dict[str, Any] = {
    "byte-level": lambda texts: _byte_level(texts, prefix_space=False),
    "byte-level, space first": lambda texts: _byte_level(texts, prefix_space=True),
    "byte-level, begins with </s>": lambda texts: _byte_level(texts, prefix_space=False, begin="</s>"),
    "byte fallback, normalizer": lambda texts: _byte_fallback(
        texts, normalizer=normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    ),
    "byte fallback, metaspace": lambda texts: _byte_fallback(
        texts, pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    ),
    "unigram": _unigram,
    "t5": _t5,
    "word piece": _word_piece,
    "byte-level, split as Llama 3": lambda texts: _byte_level(texts, pre_tokenizer=_split(_AS_LLAMA_3)),
    "byte-level, digits and Chinese apart": lambda texts: _byte_level(
        texts, pre_tokenizer=_split(r"\p{N}{1,3}|[\u4e00-\u9fa5\u3040-\u30ff]+")
    ),
    "byte-level, single digits": lambda texts: _byte_level(texts, pre_tokenizer=_split(r"\p{N}")),
    "unigram, no space first, NFKC": lambda texts: _unigram(texts, prepend="never", normalizer=normalizers.NFKC()),
    "unigram, NFKC and single blanks": lambda texts: _unigram(
        texts,
        normalizer=normalizers.Sequence(
            [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
        ),
    ),
    "unigram, stripped": lambda texts: _unigram(
        texts, normalizer=normalizers.Sequence([normalizers.Strip(), normalizers.NFKC()])
    ),
    "unigram, lower-cased without accents": lambda texts: _unigram(
        texts,
        normalizer=normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]),
    ),
    "word piece, cased": lambda texts: _word_piece(
        texts, normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    ),
    "NFC, byte-level, split as Qwen": lambda texts: _byte_level(
        texts, normalizer=normalizers.NFC(), pre_tokenizer=_split(_AS_LLAMA_3.replace("{1,3}", ""))
    ),
    "NFKC, lower case, byte-level": lambda texts: _byte_level(
        texts, normalizer=normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    ),
    "no accents, byte-level": lambda texts: _byte_level(
        texts, normalizer=normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])
    ),
    "NFKC, byte fallback": lambda texts: _byte_fallback(
        texts,
        normalizer=normalizers.Sequence([normalizers.NFKC(), normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
    ),
}
"""Kinds of tokenizers; those that begin with "byte" keep every character of a text."""


@cache
def of_kind(kind: str, texts: tuple[str, ...]) -> Any:
    """Returns a small tokenizer of a kind, trained on the texts."""
    return KINDS[kind](texts)
