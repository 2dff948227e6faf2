"""Two vocabularies side by side: which tokens both have, and how one spells what only the other has."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from interp.errors import UserError
from interp.models.language.word_tokens import token_bytes
from interp.models.tokens.encoding import encode_piece

_ROLES = (
    "bos_token_id",
    "eos_token_id",
    "unk_token_id",
    "pad_token_id",
    "cls_token_id",
    "sep_token_id",
    "mask_token_id",
)


@dataclass(frozen=True)
class Match:
    """A new vocabulary in terms of an old one."""

    shared: dict[int, int]
    """New token: the old one that spells the same bytes, or has the same part as a special token."""
    pieces: dict[int, tuple[int, ...]]
    """New token: the old ones that spell it; none where the old vocabulary cannot spell it."""

    @property
    def n_bare(self) -> int:
        """New tokens that nothing spells."""
        return sum(not ids for ids in self.pieces.values())


def match(old: Any, new: Any) -> Match:
    """Returns how the old tokenizer's tokens spell those of the new one.

    Raises UserError for a tokenizer whose tokens cannot be turned into bytes.
    """
    theirs, ours = token_bytes(new), token_bytes(old)
    by_bytes: dict[bytes, int] = {}
    is_byte = [str(old.convert_ids_to_tokens(id)).startswith("<0x") for id in range(len(ours))]
    for id in sorted(
        range(len(ours)), key=is_byte.__getitem__
    ):  # a whole character goes before the byte token that spells it too
        if part := ours[id]:
            by_bytes.setdefault(part, id)
    shared = _special(old, new)
    pieces: dict[int, tuple[int, ...]] = {}
    for id, part in enumerate(theirs):
        if id in shared:
            continue
        if part and part in by_bytes:
            shared[id] = by_bytes[part]
        else:
            pieces[id] = _spelled(old, part, ours, by_bytes) if part else ()
    return Match(shared, pieces)


def _special(old: Any, new: Any) -> dict[int, int]:
    """Special tokens of the same part or the same name; where the old one has no padding, its end stands for it."""
    found: dict[int, int] = {}
    names = {token: id for token, id in old.get_vocab().items() if id in set(old.all_special_ids)}
    for token, id in new.get_vocab().items():
        if id in set(new.all_special_ids) and token in names:
            found[id] = names[token]
    for role in _ROLES:
        mine, theirs = getattr(old, role), getattr(new, role)
        if theirs is not None and theirs not in found and mine is not None:
            found[theirs] = mine
    return found


def _spelled(old: Any, part: bytes, ours: Sequence[bytes | None], by_bytes: dict[bytes, int]) -> tuple[int, ...]:
    """The old tokens of some bytes: as the tokenizer writes them, or the longest ones first where they are no whole text."""
    try:
        ids = tuple(encode_piece(old, part.decode(), first=False).ids)
    except (UnicodeDecodeError, UserError):
        ids = ()
    if ids and b"".join(ours[id] or b"" for id in ids) == part:
        return ids
    found, at = [], 0
    while at < len(part):
        end = next((end for end in range(len(part), at, -1) if part[at:end] in by_bytes), None)
        if end is None:
            return tuple(id for id in ids if ours[id])  # what of it the old tokenizer knows
        found.append(by_bytes[part[at:end]])
        at = end
    return tuple(found)


def without_tokens(tokenizer: Any, ids: Collection[int]) -> Tokenizer:
    """Returns the same tokenizer without some of its tokens: it spells them by others. Ids stay.

    Raises UserError for a tokenizer that has no smaller pieces, one token to a word.
    """
    backend: Any = tokenizer.backend_tokenizer
    state = json.loads(backend.to_str())
    model, names = state["model"], {tokenizer.convert_ids_to_tokens(id) for id in ids}
    if model["type"] == "Unigram":
        lowest = min(score for _, score in model["vocab"])
        model["vocab"] = [
            [token, lowest - 100 if id in set(ids) else score] for id, (token, score) in enumerate(model["vocab"])
        ]
    elif model["type"] in ("BPE", "WordPiece"):
        model["vocab"] = {token: id for token, id in model["vocab"].items() if token not in names}
        if "merges" in model:
            pairs = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
            model["merges"] = [list(pair) for pair in pairs if names.isdisjoint((*pair, "".join(pair)))]
            model["ignore_merges"] = False
    else:
        raise UserError(
            f"The tokens of a {model['type']} tokenizer have no pieces: name a model with a subword vocabulary."
        )
    return Tokenizer.from_str(json.dumps(state))
