"""Tokenizers small enough to check by hand, like GPT-2's, Llama 2's, and one word a token."""

from functools import cache
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
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
