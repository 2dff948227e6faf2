"""Probabilities of bytes, held against a sum over every token sequence that a tokenizer would write."""

import copy
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import AddedToken

from interp.errors import ArgumentError, UserError
from interp.models.bytes import ByteEnsemble, ByteModel, fill
from interp.models.bytes.canonical import Canonical
from interp.models.bytes.covers import END, combine
from interp.models.language.word_tokens import token_bytes
from tests.script_tokenizers import byte_bpe, byte_fallback, unigram, word_piece
from tests.tiny_models import tiny
from tests.tiny_tokenizers import byte_level, llama_like, word_level

FOLLOWS = ["", "a", " ", "\n", " the", "1", ".", "b", "nd", "he"]
CHARACTERS = [
    chr(code).encode()
    for code in [
        0x85,
        0xA0,
        0x1680,
        0x2000,
        0x2028,
        0x3000,
        *range(0x80, 0x800, 7),
        *range(0x800, 0xD800, 61),
        *range(0xE000, 0x10000, 61),
        *range(0x10000, 0x110000, 997),
    ]
]
KINDS = {"byte-level": byte_level, "byte fallback": llama_like}


@cache
def model_of(kind: str, family: str = "llama") -> Any:
    tokenizer = KINDS[kind]()
    return tiny(family, tokenizer=tokenizer, vocab_size=len(tokenizer))


class Slow:
    """The sum over valid sequences, each step shared out over what is valid, as one would write it down."""

    def __init__(self, model: Any) -> None:
        self.model, self.tokenizer = model, model.tokenizer
        self.parts = token_bytes(model.tokenizer)
        self.blank = b" " if model.tokenizer is llama_like() else b""

    def written(self, text: bytes) -> list[int] | None:
        try:
            return self.tokenizer(text[len(self.blank) :].decode(), add_special_tokens=False)["input_ids"]
        except UnicodeDecodeError:
            return None

    @cache
    def is_valid(self, ids: tuple[int, ...]) -> bool:
        spelled = b"".join(self.parts[id] or b"" for id in ids)
        ends = [end.encode() for end in FOLLOWS]
        for length in (1, 2, 3):
            part = spelled[len(spelled) - length :]
            if part and part[0] >= 0xC0:
                ends += [one[length:] for one in CHARACTERS if one.startswith(part) and len(one) > length]
        return spelled.startswith(self.blank) and any(
            (self.written(spelled + end) or [])[: len(ids)] == list(ids) for end in ends
        )

    @cache
    def expected(self, ids: tuple[int, ...]) -> np.ndarray:
        with torch.inference_mode():
            read = torch.tensor([[self.tokenizer.bos_token_id, *ids]])
            p = torch.softmax(self.model.hf(read).logits[0, -1].double(), -1).numpy()
        for id, part in enumerate(self.parts):
            if part is not None and not self.is_valid((*ids, id)):
                p[id] = 0
        return p / p.sum()

    def mass(self, text: bytes, ids: tuple[int, ...] = (), spelled: int = 0) -> float:
        """P of all texts that begin with this one."""
        rest, total = text[spelled:], 0.0
        p = self.expected(ids)
        for id, part in enumerate(self.parts):
            if part is None or p[id] == 0:
                continue
            if part.startswith(rest):
                total += p[id]
            elif rest.startswith(part):
                total += p[id] * self.mass(text, (*ids, id), spelled + len(part))
        return float(total)


TEXTS = ["the cat and", "a\n\nb", "then  a", "caté", "1and2.\n", " the", "日"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", TEXTS)
def test_a_text_has_the_sum_over_all_its_covers(kind: str, text: str) -> None:
    model, slow = model_of(kind), Slow(model_of(kind))
    of_bytes = ByteModel(model, tolerance=0.0)
    whole = slow.blank + text.encode()
    assert of_bytes.log_prob(text) == pytest.approx(np.log(slow.mass(whole)), abs=2e-5)
    for end in (1, len(text.encode()) - 1):
        found = of_bytes.next_byte(text.encode()[:end])
        before = slow.mass(whole[: len(slow.blank) + end])
        for byte in {*text.encode(), ord(" "), ord("n")}:
            wanted = slow.mass(whole[: len(slow.blank) + end] + bytes([byte])) / before
            assert np.exp(found[byte]) == pytest.approx(wanted, abs=2e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_sum_to_one_and_multiply_to_the_text(kind: str) -> None:
    of_bytes = ByteModel(model_of(kind))
    text = "the cat"
    reading = of_bytes.read(text.encode())
    assert np.exp(reading.log_p).sum(axis=1) == pytest.approx(1, abs=1e-9)
    steps = [of_bytes.next_byte(text[:end])[ord(text[end])] for end in range(len(text))]
    assert sum(steps) == pytest.approx(of_bytes.log_prob(text), abs=1e-4)
    assert reading.log_p[:-1][np.arange(len(text)), list(text.encode())] == pytest.approx(steps, abs=1e-4)
    given = of_bytes.log_prob(text[3:], given=text[:3])
    assert of_bytes.log_prob(text[:3]) + given == pytest.approx(of_bytes.log_prob(text), abs=1e-4)


SCRIPTS = {
    "accents": "Łódź señor", "Cyrillic": "Привет мир", "Chinese": "我们明天", "Japanese": "東京タワー", "Thai": "สวัสดี", "Hindi": "नमस्ते",
    "Arabic": "مرحبا بك", "Hebrew": "שָׁלוֹם", "emoji": "👩‍👩‍👧 ok", "code": "def f(x):\n\n    x",
    "blanks": "a  b \n\n c", "control": "<s> a </s>",
}  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("tokenizer", [byte_bpe, byte_fallback, unigram, word_piece])
def test_every_script_is_read_or_refused(tokenizer: Any, script: str) -> None:
    """Byte vocabularies read all; others rewrite some texts, which is said. No state is missing, or `read` says so."""
    used = copy.deepcopy(tokenizer())
    used.bos_token = used.bos_token or used.eos_token or used.unk_token
    model, text = tiny("llama", tokenizer=used, vocab_size=len(used)), SCRIPTS[script].encode()
    of_bytes, written = ByteModel(model, tolerance=0.01), used(SCRIPTS[script], add_special_tokens=False)["input_ids"]
    spelled = b"".join(of_bytes.canonical.parts[id] or b"" for id in written)
    if spelled != of_bytes.canonical.lead + text:
        assert tokenizer in (unigram, word_piece) or script == "control"
        if tokenizer in (unigram, word_piece):
            with pytest.raises(UserError, match="rewrites this text"):
                of_bytes.read(text)
            return
    reading = of_bytes.read(text)
    assert np.exp(reading.log_p).sum(axis=1) == pytest.approx(1, abs=1e-9)
    assert np.isfinite(reading.log_prob())


def test_a_byte_has_one_token_though_its_byte_token_is_there_too() -> None:
    """Byte-fallback vocabularies have ":" and <0x3A>; what no step's `tolerance` covers counts only the one that is written."""
    tokenizer = copy.deepcopy(byte_fallback())
    model = tiny("llama", tokenizer=tokenizer, vocab_size=len(tokenizer))
    of_bytes = ByteModel(model, tolerance=0.5)
    both = [byte for byte in b":.,abe" if np.diff(of_bytes.canonical.spelling(bytes([byte])))[0] > 1]
    assert both
    for byte in both:
        assert np.isfinite(of_bytes.log_prob(b"x" + bytes([byte]) + b"\n"))


def test_a_missing_state_is_noticed() -> None:
    of_bytes = ByteModel(model_of("byte-level"))
    expected = of_bytes.expectations(b"the cat")
    combine(b"the cat", 0, 0, expected)
    at = max((state for state in expected if expected[state].at == 4), key=len)  # what spells "the "
    with pytest.raises(UserError, match="cannot all be followed"):
        combine(b"the cat", 0, 0, {state: one for state, one in expected.items() if state[: len(at)] != at})


def test_a_state_is_read_once() -> None:
    model = model_of("byte-level")
    of_bytes, read = ByteModel(model), []
    extend = model.extend
    object.__setattr__(
        model, "extend", lambda rows, ids, **how: (read.extend(map(tuple, ids)), extend(rows, ids, **how))[1]
    )
    try:
        of_bytes.read(b"the cat and")
    finally:
        object.__delattr__(model, "extend")
    assert len(read) == len(set(read)) or len(read) <= of_bytes.n_passes
    assert of_bytes.n_passes <= 2 * len("the cat and")


@pytest.mark.parametrize("kind", KINDS)
def test_a_filled_middle_has_the_probability_of_the_whole(kind: str) -> None:
    of_bytes = ByteModel(model_of(kind))
    found = fill(of_bytes, "the c", " and", 2, width=3)
    assert {len(one.middle) for one in found} == {0, 1, 2}
    for one in found:
        assert one.log_prob == pytest.approx(of_bytes.log_prob(one.middle + b" and", given="the c"), abs=1e-5)
    assert [one.log_prob for one in found] == sorted((one.log_prob for one in found), reverse=True)
    every = {bytes([byte]): of_bytes.log_prob(bytes([byte]) + b" and", given="the c") for byte in b"abchtn d"}
    wide = [one.middle for one in fill(of_bytes, "the c", " and", 1, width=8) if one.middle]
    assert [middle for middle in wide if middle in every] == sorted(
        set(wide) & set(every), key=lambda middle: -every[middle]
    )
    with pytest.raises(ArgumentError, match="n_bytes"):
        fill(of_bytes, "the", " c", 0)


def test_what_has_no_bytes_is_refused() -> None:
    with pytest.raises(UserError, match=r"cannot be turned into bytes|does not spell|rewrites"):
        ByteModel(tiny("llama", tokenizer=word_level(), vocab_size=97))
    with pytest.raises(ArgumentError, match="first byte"):
        ByteModel(model_of("byte-level"), bos="never")
    with pytest.raises(UserError, match="UTF-8"):
        ByteModel(model_of("byte-level")).log_prob(b"a\xff\xffb")


@pytest.mark.parametrize("single_word", [True, False])
def test_a_tokenizer_whose_added_tokens_look_at_what_follows_is_refused(single_word: bool) -> None:
    """ "the cat" is the+" "+cat and "the cats" the+" cat"+s: with it, ln P("the cat") was 10 nats below the sum over valid sequences."""
    tokenizer = copy.deepcopy(byte_level())
    tokenizer.add_tokens([AddedToken("cat", single_word=single_word, special=False)])
    model = tiny("llama", tokenizer=tokenizer, vocab_size=len(tokenizer))
    if single_word:
        with pytest.raises(UserError, match="whole words alone"):
            ByteModel(model)
    else:
        assert ByteModel(model, tolerance=0.0).log_prob("the cat") == pytest.approx(
            np.log(Slow(model).mass(b"the cat")), abs=2e-5
        )


def test_half_of_a_surrogate_pair_has_no_bytes() -> None:
    with pytest.raises(ArgumentError, match="Character 1 of the text"):
        ByteModel(model_of("byte-level")).log_prob("a\ud800")


def test_a_continuation_is_drawn_as_its_bytes_are_likely() -> None:
    of_bytes = ByteModel(model_of("byte-level"))
    assert of_bytes.sample("the", 3, seed=1) == of_bytes.sample(b"the", 3, seed=1)
    drawn = [of_bytes.sample("the c", 1, seed=seed) for seed in range(12)]
    p = np.exp(of_bytes.next_byte("the c"))
    assert np.mean([bool(one) and p[one[0]] > np.median(p) for one in drawn]) > 0.5
    assert p[END] > 0


def test_models_of_two_vocabularies_are_mixed_byte_by_byte() -> None:
    one, other = ByteModel(model_of("byte-level")), ByteModel(model_of("byte fallback"))
    mixed = ByteEnsemble([one, other], [0.25, 0.75])
    p = 0.25 * np.exp(one.next_byte("the c")) + 0.75 * np.exp(other.next_byte("the c"))
    assert np.exp(mixed.next_byte("the c")) == pytest.approx(p, abs=1e-9)
    by_byte = [mixed.next_byte("cat"[:end])[ord("cat"[end])] for end in range(3)]
    assert mixed.log_prob("cat") == pytest.approx(sum(by_byte), abs=1e-3)
    alone = ByteEnsemble([one, other], [1.0, 0.0])
    assert alone.log_prob("cat") == pytest.approx(one.log_prob("cat"))
    for models, weights in (([], None), ([one], [0.5]), ([one, other], [1.5, -0.5])):
        with pytest.raises(ArgumentError, match="sum to 1"):
            ByteEnsemble(models, weights)


def test_a_vocabulary_is_indexed_once_and_anew_when_tokens_are_added() -> None:
    tokenizer = copy.deepcopy(byte_level())
    known = Canonical.of(tokenizer)
    assert Canonical.of(tokenizer) is known
    assert Canonical.of(copy.deepcopy(tokenizer)) is not known
    tokenizer.add_tokens(["zebra"])
    assert b"zebra" in Canonical.of(tokenizer).parts
