"""The bytes that each token of a vocabulary stands for, so that what letters share between tokens can be put together again."""

import json
import re
from collections.abc import Iterator
from typing import Any

from tokenizers import models

from interp.errors import UserError
from interp.models.tokens.encoding import token_texts

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_KNOWN = {"ByteLevel", "ByteFallback", "Fuse", "Strip", "Replace", "Metaspace", "WordPiece"}


def token_bytes(tokenizer: Any) -> list[bytes | None]:
    """Returns the bytes each token of a transformers tokenizer adds to a text that it continues; None for special tokens.

    A leading space is included. Byte-level vocabularies write a byte as a letter (GPT-2's table), SentencePiece's fall back to
    tokens such as <0x0A>; the tokens of all others are whole characters.
    Raises UserError for a tokenizer whose tokens are not bytes one after the other.
    """
    if not tokenizer.is_fast:
        raise UserError(
            f"The tokens of {type(tokenizer).__name__} cannot be turned into bytes: use the fast tokenizer."
        )
    backend: Any = tokenizer.backend_tokenizer
    kinds = set(_decoders(json.loads(backend.decoder.__getstate__()))) if backend.decoder else set[str]()
    if not kinds <= _KNOWN or (not kinds and not isinstance(backend.model, models.WordLevel)):
        raise UserError(
            f"The tokens of this {type(backend.model).__name__} tokenizer cannot be turned into bytes: its decoder is "
            f"{', '.join(sorted(kinds - _KNOWN)) or 'missing'}."
        )
    texts = token_texts(tokenizer)
    added: dict[int, str] = {id: token for token, id in tokenizer.get_added_vocab().items()}
    special = set(tokenizer.all_special_ids)
    table = byte_of_letter() if "ByteLevel" in kinds else None
    return [
        None if id in special else _bytes(added.get(id), tokenizer.convert_ids_to_tokens(id), text, table, kinds)
        for id, text in enumerate(texts)
    ]


def _bytes(added: str | None, token: Any, text: str, table: dict[str, int] | None, kinds: set[str]) -> bytes | None:
    """The bytes of one token: an added one is written as it is."""
    if added is not None:
        return added.encode()
    if token is None:
        return None
    if table is not None:
        return bytes(table[letter] for letter in token) if all(letter in table for letter in token) else token.encode()
    if "ByteFallback" in kinds and (byte := _BYTE.fullmatch(token)):
        return bytes([int(byte[1], 16)])
    return text.encode()


def byte_of_letter() -> dict[str, int]:
    """Returns the byte that each letter of a byte-level vocabulary stands for.

    Printable Latin-1 characters stand for themselves; the other bytes, in order, are written from U+0100 on (GPT-2).
    """
    themselves = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in themselves]
    return {
        **{chr(byte): byte for byte in themselves},
        **{chr(0x100 + place): byte for place, byte in enumerate(others)},
    }


def _decoders(state: dict[str, Any]) -> Iterator[str]:
    if state["type"] == "Sequence":
        for part in state["decoders"]:
            yield from _decoders(part)
    else:
        yield state["type"]
