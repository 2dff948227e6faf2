"""Text of any script as tokens, spans, words and sentences: tokenizers of every kind, against what the tokenizer itself writes."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from interp.errors import ArgumentError, UserError
from interp.models.dictionary.windows import cut_windows, tokenize
from interp.models.language.word_surprisal import read_words
from interp.models.language.word_tokens import Vocabulary, token_bytes
from interp.models.tokens.encoding import beginning, check_single_beginning, covering, encode_piece, token_texts, unread
from interp.stimuli.sentences import sentences
from interp.words import is_word, normalised
from probes.function_tokens.token_classes import classify
from probes.verbatim_memory.lists import read_pool
from probes.verbatim_memory.trials import encode_list, encode_text, last_words, scramble
from tests.script_texts import SCRIPTS
from tests.tiny_models import tiny
from tests.tiny_tokenizers import KINDS, of_kind

TEXTS = {
    **{name: script.text for name, script in SCRIPTS.items()},
    "decomposed": unicodedata.normalize("NFD", SCRIPTS["latin with accents"].text),
    "decomposed korean": unicodedata.normalize("NFD", SCRIPTS["korean"].text),
    "other blanks": "Il a dit\u00a0: «\u202foui\u202f» puis\u2003non.\u2028Et puis\u00a0\u00a0non.",
    "line ends": "if x:\r\n\treturn y\r\n\r\n\t\tpass\r\nend of it",
    "joiners": "می\u200cخواهم به क्\u200dष a\u200bb \u2060c\u00ad d\ufeffe and so on",
    "compatibility": "ﬁne ½ … Ｆｕｌｌ ① ㍍ ﷺ ™ x² Ⅳ ｶﾞｿﾘﾝ ﾊﾟﾝ İstanbul ß ŉ ΐ end",
    "odd marks": "q\u0301\u0323 e\u0323\u0301 Z\u0351\u036b a\u0300\u0301b \u0301c and so",
    "blanks": "def f(x):\n    return x  # two  blanks\n\n\tif x != 3.5:\n        f(x)\n",
}
ALL = tuple(TEXTS.values())
LOSSLESS = [kind for kind in KINDS if kind.startswith("byte")]
every_kind = pytest.mark.parametrize("kind", KINDS)
lossless_kind = pytest.mark.parametrize("kind", LOSSLESS)
every_script = pytest.mark.parametrize("script", TEXTS)


def bare(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def done_or_refused(call: Callable[..., Any], *arguments: Any) -> tuple[Any, str]:
    """What a call returns, or nothing and the sentence that it refuses with."""
    try:
        return call(*arguments), ""
    except ArgumentError as error:
        return None, str(error)


def nouns_of(script: str) -> tuple[str, ...]:
    """Three short words of the text; where it has no spaces between words, three runs of letters."""
    found = dict.fromkeys(re.findall(r"[^\W\d_][^\s.,:;!?।။።؟。“”«»()\[\]\"'’=_/\d*-]*", normalised(TEXTS[script])))
    return tuple([word[:6] for word in found if is_word(word[:6])][:3])


# ---------------------------------------------------------------------- tokens


@every_kind
@every_script
def test_a_first_text_is_what_the_tokenizer_writes_and_a_piece_goes_on_as_in_one_text(kind, script):
    tokenizer, text = of_kind(kind, ALL), TEXTS[script]
    first = encode_piece(tokenizer, text, first=True)
    assert first.ids == bare(tokenizer, text)
    begun = [*beginning(tokenizer, "auto"), *first.ids]
    whole = tokenizer(text)["input_ids"]
    assert whole[: len(begun)] == begun
    assert set(whole[len(begun) :]) <= set(tokenizer.all_special_ids)
    places = [place for place, sign in enumerate(text) if sign == " " and not text[place - 1].isspace()]
    for place in places[:8]:
        before, after = text[:place], text[place:]
        joined = [*encode_piece(tokenizer, before, first=True).ids, *encode_piece(tokenizer, after).ids]
        assert joined == first.ids


@lossless_kind
@every_script
def test_a_piece_is_every_byte_of_its_text_and_its_spans_every_character(kind, script):
    tokenizer = of_kind(kind, ALL)
    spelled = token_bytes(tokenizer)
    for text in (TEXTS[script], " " + TEXTS[script]):
        piece = encode_piece(tokenizer, text)
        assert b"".join(spelled[id] or b"<special>" for id in piece.ids) == text.encode()
        assert {place for span in piece.offsets for place in range(*span)} == set(range(len(text)))
        assert unread(tokenizer, piece, text, 0, len(text)) == ""
        for place in range(0, len(text), 7):
            first, last = covering(piece, place, place + 1)
            assert text[place].encode() in b"".join(spelled[id] or b"" for id in piece.ids[first:last])


@every_kind
@every_script
def test_what_no_token_spells_is_told_and_all_else_is_covered(kind, script):
    """Told by the normaliser: a character without which it would write the same is lost."""
    tokenizer, text = of_kind(kind, ALL), TEXTS[script]
    normaliser = tokenizer.backend_tokenizer.normalizer
    piece = encode_piece(tokenizer, text)
    lost = {*unread(tokenizer, piece, text, 0, len(text))}
    for cluster in re.finditer(r"\S[\u0300-\u036f\u1160-\u11ff\uff9e\uff9f]*", text):
        for end in range(cluster.start() + 1, cluster.end()):
            written = [
                normaliser.normalize_str(text[cluster.start() : stop]) if normaliser else stop
                for stop in (end, end + 1)
            ]
            if written[0] != written[1] and text[end] not in lost:
                first, last = covering(piece, end, end + 1)
                assert last > first
    if kind.startswith(("byte", "NFC", "NFKC")):
        assert not lost


@every_kind
def test_a_tokens_text_is_what_it_adds(kind):
    tokenizer = of_kind(kind, ALL)
    texts, spelled = token_texts(tokenizer), token_bytes(tokenizer)
    ids = set(bare(tokenizer, " ".join(ALL))) - set(tokenizer.all_special_ids)
    assert token_texts(tokenizer, sorted(ids)) == [texts[id] for id in sorted(ids)]
    for id in ids:
        part = spelled[id]
        assert part is not None
        if "\ufffd" not in texts[id]:
            assert part.decode() == texts[id]
    assert all(spelled[id] is None for id in tokenizer.all_special_ids)


@every_kind
def test_what_begins_a_word_is_labelled_a_word_however_the_vocabulary_writes_the_space(kind):
    tokenizer = of_kind(kind, ALL)
    ids = bare(tokenizer, SCRIPTS["cyrillic"].text + SCRIPTS["latin with accents"].text)
    table = classify([ids], 0.5, tokenizer, len(tokenizer)).set_index("token_id")
    spaced = "Ġ" if "level" in kind else "" if "word piece" in kind else "▁"
    n_words = 0
    for id, row in table.iterrows():
        token = tokenizer.convert_ids_to_tokens(id)
        letters = token.removeprefix(spaced).removeprefix("##")
        if letters.isascii() and letters.isalpha():
            begins = not token.startswith("##") if "word piece" in kind else token.startswith(spaced)
            assert row["kind"] == ("word" if begins else "part of word"), token
            n_words += begins
    assert n_words >= 1


@every_kind
def test_windows_hold_every_token_of_every_text_once(kind):
    tokenizer = of_kind(kind, ALL)
    ids = tokenize(tokenizer, ALL)
    assert ids == [bare(tokenizer, text) for text in ALL]
    windows = cut_windows(ids, 16, shortest=1)
    for index, text in enumerate(ids):
        rows = np.flatnonzero(windows.document == index)
        assert [id for row in rows for id in windows.ids[row, : windows.lengths[row]].tolist()] == text


@pytest.mark.parametrize(
    ("kind", "begins"), [("byte-level", []), ("byte-level, begins with </s>", [1]), ("t5", []), ("word piece", [1])]
)
def test_a_text_begins_with_whatever_the_tokenizer_writes_before_it(kind, begins):
    tokenizer = of_kind(kind, ALL)
    assert beginning(tokenizer, "auto") == begins
    assert beginning(tokenizer, "never") == []
    if begins:
        with pytest.raises(UserError, match="two beginning-of-sequence tokens"):
            check_single_beginning(tokenizer, [*begins, *begins, 9], "tiny")
    if kind == "t5":
        with pytest.raises(ArgumentError, match="use --bos auto or never"):
            beginning(tokenizer, "always")
    else:
        assert beginning(tokenizer, "always") == ([1] if kind == "word piece" else [tokenizer.bos_token_id])


# ---------------------------------------------------------------------- words


@every_kind
@every_script
def test_lists_and_last_words_are_parted_into_tokens_or_refused(kind, script):
    tokenizer, nouns = of_kind(kind, ALL), nouns_of(script)
    spelled = token_bytes(tokenizer)
    encoded, refusal = done_or_refused(encode_list, tokenizer, nouns)
    if encoded is None:
        assert kind not in LOSSLESS
        assert re.search(r"cannot spell the noun|joins the noun", refusal)
    else:
        for noun, (first, last), following in zip(nouns, encoded.spans, [*encoded.spans[1:], None], strict=True):
            if kind in LOSSLESS:
                assert b"".join(spelled[id] or b"" for id in encoded.ids[first:last]) == f" {noun}".encode()
            assert tokenizer.unk_token_id is None or tokenizer.unk_token_id not in encoded.ids[first:last]
            assert following is None or following[0] == last + 1  # the comma
    text = " ".join(TEXTS[script].split(" ")[-6:])
    words, refusal = done_or_refused(last_words, tokenizer, text, 4)
    if words is None:
        assert kind not in LOSSLESS
        assert "cannot spell" in refusal
    else:
        assert [word for word, _ in words] == text.split()[-4:]
        ends = [span for _, span in words]
        assert [end for _, end in ends[:-1]] == [start for start, _ in ends[1:]]
        assert kind not in LOSSLESS or text.endswith("\n") or ends[-1][1] == len(encode_text(tokenizer, text))


@pytest.mark.parametrize("kind", ["unigram", "t5", "word piece"])
def test_a_measured_word_with_a_letter_the_vocabulary_lacks_is_refused(kind):
    tokenizer = of_kind(kind, (SCRIPTS["latin with accents"].text,))
    with pytest.raises(ArgumentError, match="cannot spell the noun ნინო: leave it out of the pool"):
        encode_list(tokenizer, ("une", "ნინო"))
    with pytest.raises(ArgumentError, match=r"cannot spell 'ნინო' before the second list: give other --texts"):
        last_words(tokenizer, "une ნინო une", 2)
    assert [word for word, _ in last_words(tokenizer, "ნინო une  une", 2)] == ["une", "une"]


def test_tokens_that_are_not_bytes_one_after_the_other_are_refused_by_the_exact_mode_alone():
    plain = Tokenizer(models.BPE({"a": 0, "b": 1, "ab</w>": 2, "x</w>": 3}, []))
    plain.decoder = decoders.BPEDecoder()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain)
    vocabulary = Vocabulary.of(tiny("llama", tokenizer=tokenizer), "Leave it out with --exact-rotations 0.")
    assert vocabulary.boundary.shape == (97,)
    with pytest.raises(UserError, match=r"cannot be turned into bytes.*--exact-rotations 0"):
        _ = vocabulary.spellings


def spellings(letters: str, tokens: dict[str, int]) -> list[list[int]]:
    """All ways to write a string as tokens, one after the other."""
    if not letters:
        return [[]]
    return [
        [tokens[letters[:end]], *rest]
        for end in range(1, len(letters) + 1)
        if letters[:end] in tokens
        for rest in spellings(letters[end:], tokens)
    ]


@pytest.mark.parametrize(("noun", "seed"), [("水", 3), ("ёж", 4)])
def test_the_exact_probability_counts_spellings_that_split_a_letter(noun, seed):
    """Brute force: every sequence of byte-level tokens that spells the noun, each read by itself by transformers alone."""
    tokenizer = of_kind("byte-level", (5 * " řeka řeč řada señor seña ёж ёлка 水 氷",))
    model = tiny("llama", tokenizer=tokenizer, vocab_size=len(tokenizer), seed=seed)
    before = [1, *encode_text(tokenizer, "Anna wrote:", first=True)]
    rows = model.rows(1, 64)
    logits = model.extend(rows, [before])
    vocabulary = Vocabulary.of(model, "")
    encoded = encode_list(tokenizer, (noun, "oak"))
    ((word, _),) = read_words(model, rows, logits, [encoded], vocabulary, exact_rows=[0], exact_threshold=1e-30)
    ((letters, _),) = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(f" {noun}")
    total, in_letters, began = 0.0, 0.0, 0.0
    ways = spellings(letters, tokenizer.get_vocab())
    for ids in ways:
        with torch.no_grad():
            log_p = model.hf(torch.tensor([before + ids])).logits[0].log_softmax(-1).double()[len(before) - 1 :]
        spelled = sum(float(log_p[place, id]) for place, id in enumerate(ids))
        p = np.exp(spelled + float(log_p[len(ids), vocabulary.boundary].logsumexp(0)))
        total += p
        in_letters += p * all("\ufffd" not in tokenizer.decode([id]) for id in ids)
        began = float(log_p[0, vocabulary.boundary].logsumexp(0))
    assert len(ways) > 1
    assert np.log(total / in_letters) > 0.05  # else spellings in whole letters would do
    assert word.surprisal_nats["exact"] == pytest.approx(began - np.log(total), abs=5e-5)
    assert word.left_out_share < 1e-9


# ---------------------------------------------------------------------- sentences and nouns


@pytest.mark.parametrize("script", [name for name in SCRIPTS if name not in ("thai", "code", "logs", "emoji")])
def test_sentences_end_where_the_script_ends_them(script):
    expected = list(SCRIPTS[script].sentences)
    assert sentences(SCRIPTS[script].text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It costs 3.50 or 1,000.5 here. Then 4.", ["It costs 3.50 or 1,000.5 here.", "Then 4."]),
        ("Wait . . . and see ... there", ["Wait . . . and see ... there"]),
        ("Dr. J. Smith met e.g. Mr. Poe. They ate!", ["Dr. J. Smith met e.g. Mr. Poe.", "They ate!"]),
        ('He said "No!" She said "Yes."  End', ['He said "No!"', 'She said "Yes."', "End"]),
        ("No stop at all", ["No stop at all"]),
        (". . .", [". . ."]),
        ("", []),
        ("One\n\ntwo.\tThree", ["One\n\ntwo.", "Three"]),
    ],
)
def test_sentences_are_not_cut_inside_numbers_ellipses_and_abbreviations(text, expected):
    assert sentences(text) == expected


@every_script
def test_a_scrambled_text_keeps_every_word_or_is_refused(script):
    def signs(of: str) -> Counter[str]:
        return Counter("".join(of.split()).casefold())

    text = TEXTS[script]
    mixed, refusal = done_or_refused(scramble, text, 1)
    if mixed is None:
        assert "leave scrambled out of --contexts" in refusal
        assert script in ("chinese", "japanese")
    else:
        assert signs(mixed) == signs(text)
        assert mixed.split() != text.split()


@pytest.mark.parametrize(
    "text", ["a price of 3.50 and no stop", "Well . . . 2.5 times. So", "What?! He went on... Then 'No.'"]
)
def test_scrambling_loses_no_number_ellipsis_or_unfinished_sentence(text):
    mixed = scramble(text, seed=0)
    assert Counter(re.sub(r"\s", "", mixed).lower()) == Counter(re.sub(r"\s", "", text).lower())
    assert all(number in mixed for number in re.findall(r"\d\.\d+", text))


@pytest.mark.parametrize("script", [name for name in SCRIPTS if name not in ("emoji", "logs")])
def test_a_pool_is_read_composed_without_marks_of_order_and_blanks(script, tmp_path):
    nouns = nouns_of(script)
    assert len(nouns) == 3
    path = tmp_path / "nouns.txt"
    path.write_text("\ufeff" + "".join(f"{unicodedata.normalize('NFD', noun)} \n" for noun in nouns), encoding="utf-8")
    assert read_pool(path).groups == (tuple(unicodedata.normalize("NFC", noun) for noun in nouns),)
