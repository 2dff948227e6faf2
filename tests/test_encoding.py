"""Text to tokens on tokenizers small enough to check by hand."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers
from transformers import ByT5Tokenizer, GenerationConfig, PreTrainedTokenizerFast

from interp.errors import ArgumentError, UserError
from interp.models.tokens.chat import chat_frame
from interp.models.tokens.encoding import (
    Piece,
    beginning,
    check_single_beginning,
    covering,
    encode_piece,
    stop_ids,
    unread,
)
from tests import script_tokenizers
from tests.script_texts import SCRIPTS
from tests.tiny_tokenizers import CHAT, byte_level, llama_like, of_kind, word_level

# ---------------------------------------------------------------------- text to tokens


@pytest.mark.parametrize(
    ("tokenizer", "text", "tokens", "offsets"),
    [
        (byte_level, " the cat", ["Ġthe", "Ġcat"], [(0, 4), (4, 8)]),
        (byte_level, "nd the", ["nd", "Ġthe"], [(0, 2), (2, 6)]),  # the anchor would have made it "and"
        (byte_level, ".\n\n", [".", "ĊĊ"], [(0, 1), (1, 3)]),
        (byte_level, "é b", ["Ã", "©", "Ġ", "b"], [(0, 1), (0, 1), (1, 2), (2, 3)]),
        (llama_like, " the cat", ["▁the", "▁cat"], [(0, 4), (4, 8)]),
        (llama_like, "the cat", ["t", "he", "▁cat"], [(0, 1), (1, 3), (3, 7)]),  # a tokenizer alone begins with ▁the
        (llama_like, "nd the", ["nd", "▁the"], [(0, 2), (2, 6)]),
        (llama_like, "\né", ["<0x0A>", "<0xC3>", "<0xA9>"], [(0, 1), (1, 2), (1, 2)]),
        (word_level, " w5 w6", ["w5", "w6"], [(1, 3), (4, 6)]),
        (llama_like, "", [], []),
    ],
)
def test_a_piece_is_tokens_without_an_invented_space_and_the_characters_they_cover(tokenizer, text, tokens, offsets):
    piece = encode_piece(tokenizer(), text)
    assert (tokenizer().convert_ids_to_tokens(piece.ids), piece.offsets) == (tokens, offsets)


@pytest.mark.parametrize("tokenizer", [byte_level, llama_like])
@settings(deadline=None)
@given(text=st.text(alphabet="andthec .\né😀", max_size=12))
def test_a_text_and_the_piece_that_continues_it_read_as_written_together(tokenizer, text):
    piece = encode_piece(tokenizer(), text)
    start = tokenizer()("the cat", add_special_tokens=False)["input_ids"]
    assert tokenizer().decode(start + piece.ids) == "the cat" + text
    assert {place for span in piece.offsets for place in range(*span)} == set(range(len(text)))


def test_a_tokenizer_without_offsets_is_refused():
    with pytest.raises(UserError, match="ByT5Tokenizer does not report character offsets: use the model's fast"):
        encode_piece(ByT5Tokenizer(), "text")


@pytest.mark.parametrize(
    ("characters", "tokens"),
    [((0, 4), (0, 1)), ((2, 6), (0, 2)), ((5, 6), (1, 2)), ((8, 9), (2, 4)), ((9, 10), (4, 5)), ((0, 10), (0, 5))],
)
def test_characters_are_covered_by_every_token_that_touches_them(characters, tokens):
    # "1234 678é0" with a space that no token covers and a letter of two tokens
    piece = Piece([11, 12, 13, 14, 15], [(0, 4), (5, 8), (8, 9), (8, 9), (9, 10)])
    assert covering(piece, *characters) == tokens


@pytest.mark.parametrize("characters", [(4, 5), (10, 12)])
def test_characters_that_no_token_covers_are_named(characters):
    piece = Piece([11, 12], [(0, 4), (5, 10)])
    with pytest.raises(ValueError, match="no token covers characters {} to {}".format(*characters)):
        covering(piece, *characters)


@pytest.mark.parametrize(
    ("tokenizer", "auto", "always"), [(llama_like, [1], [1]), (byte_level, [], [1]), (word_level, [], None)]
)
def test_a_text_begins_as_the_policy_says(tokenizer, auto, always):
    assert beginning(tokenizer(), "auto") == auto
    assert beginning(tokenizer(), "never") == []
    if always is None:
        with pytest.raises(ArgumentError, match="has no beginning-of-sequence token: use --bos auto or never"):
            beginning(tokenizer(), "always")
    else:
        assert beginning(tokenizer(), "always") == always


def test_two_beginnings_are_refused_and_one_is_not():
    for ids in ([1, 1], [1, 1, 9]):
        with pytest.raises(UserError, match="The prompt of tiny begins with two beginning-of-sequence tokens"):
            check_single_beginning(llama_like(), ids, "tiny")
    for ids in ([], [1], [1, 9, 1, 1], [9, 9]):
        check_single_beginning(llama_like(), ids, "tiny")
    check_single_beginning(word_level(), [9, 9], "tiny")


# ---------------------------------------------------------------------- control tokens in other characters


def normalising(normalizer: Any, **special: str) -> Any:
    """As T5's tokenizer, but for what it makes of a text before it reads it."""
    backend = copy.deepcopy(script_tokenizers.unigram().backend_tokenizer)
    backend.normalizer = normalizer
    special = {"unk_token": "<unk>", "pad_token": "<pad>", "eos_token": "</s>", **special}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


@pytest.mark.parametrize(
    "written", ["＜/s＞", "﹤/s﹥", "＜／ｓ＞", "</s＞", "＜/s＞＜/s＞", "＜<pad>/s＞", "a＜pad＞</s>b"]
)
@pytest.mark.parametrize("first", [False, True])
def test_a_text_that_becomes_a_control_token_stays_text(written, first):
    tokenizer = normalising(normalizers.NFKC())
    text = f"a {written} b"
    piece = encode_piece(tokenizer, text, first=first)
    assert set(piece.ids).isdisjoint(set(tokenizer.all_special_ids) - {tokenizer.unk_token_id})
    assert "</s>" in "".join(tokenizer.convert_ids_to_tokens(piece.ids)) or "pad" in written
    covered = {place for span in piece.offsets for place in range(*span)}
    assert {place for place, sign in enumerate(text) if not sign.isspace()} <= covered


def test_an_added_token_of_the_template_in_other_characters_is_text():
    tokenizer = normalising(normalizers.NFKC())
    tokenizer.add_tokens(["[INST]"])
    tokenizer.chat_template = "[INST]{{ messages[0]['content'] }}"
    (inst,) = tokenizer.convert_tokens_to_ids(["[INST]"])
    assert inst in encode_piece(tokenizer, "［INST］", by_template=True).ids  # it would be one
    assert inst not in encode_piece(tokenizer, "a ［INST］ b").ids
    assert inst not in encode_piece(tokenizer, "a [INST] b").ids


def test_a_token_that_is_made_special_later_is_text_from_then_on():
    tokenizer = copy.deepcopy(byte_level())
    tokenizer.add_tokens(["<later>"])
    (later,) = encode_piece(tokenizer, "<later>").ids
    tokenizer.pad_token = "<later>"
    ids = encode_piece(tokenizer, "a <later>").ids
    assert later not in ids
    assert tokenizer.decode(ids) == "a <later>"


def test_a_character_that_is_a_control_token_by_itself_is_refused():
    tokenizer = normalising(normalizers.Replace("\u2404", "</s>"))
    with pytest.raises(ArgumentError, match=r"reads '\u2404' as its control token </s>: leave it out of the text\.$"):
        encode_piece(tokenizer, "a \u2404 b")


@pytest.mark.parametrize("kind", ["t5", "unigram", "word piece", "byte-level"])
@pytest.mark.parametrize("text", [" ʻokina, 猫, ꙮ.", "猫", " ꙮ9, le ꙮ chat", "猫 garçon 猫猫"])
def test_what_a_tokenizer_does_not_know_is_lost_wherever_it_stands_in_a_word(kind, text):
    tokenizer = of_kind(kind, (SCRIPTS["latin with accents"].text + " okina 9 , .",))
    lost = "" if kind == "byte-level" else "".join(sign for sign in text if sign in "ʻ猫ꙮ")
    if kind == "word piece":  # which loses a word as a whole
        assert set(lost) <= set(unread(tokenizer, encode_piece(tokenizer, text), text, 0, len(text)))
    else:
        assert unread(tokenizer, encode_piece(tokenizer, text), text, 0, len(text)) == lost


def test_the_unknown_token_of_a_tokenizer_that_does_not_declare_it_is_known():
    piece = encode_piece(word_level(), "w5 cat w6")
    assert unread(word_level(), piece, "w5 cat w6", 0, 9) == "cat"


# ---------------------------------------------------------------------- chat


def chatty(template: str | None) -> Any:
    tokenizer = byte_level(bos_token="<s>", eos_token="</s>", pad_token="</s>")
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("template", [CHAT, "{{ bos_token }}[INST] {{ messages[0]['content'] | trim }} [/INST]"])
def test_a_chat_frame_around_a_context_is_the_whole_message_encoded_at_once(template):
    tokenizer = chatty(template)
    before, context, after = "Read this:\n", "The cat and the hand.", "\nWhat is in it?"
    head, tail = chat_frame(tokenizer, before, after, "tiny")
    message = [{"role": "user", "content": before + context + after}]
    text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    whole = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert [*head, *encode_piece(tokenizer, context).ids, *tail] == whole
    if template == CHAT:
        assert head[0] == tokenizer.convert_tokens_to_ids("<|user|>")
        assert tokenizer.convert_ids_to_tokens(tail)[-4:] == ["<|end|>", "Ċ", "<|assistant|>", "Ċ"]
    else:
        assert head[:1] == [1]


@pytest.mark.parametrize(
    ("template", "kind", "words"),
    [
        (None, ArgumentError, "tiny has no chat template: use --prompt-format plain"),
        ("Hello.", UserError, "does not keep a message as it is: use --prompt-format plain"),
        ("{{ messages[0]['content'] }} Again: {{ messages[0]['content'] }}", UserError, "does not keep a message"),
        ("{{ messages[0]['content'] | upper }}", UserError, "does not keep a message"),
        ("{{ bos_token }}{{ bos_token }}{{ messages[0]['content'] }}", UserError, "two beginning-of-sequence tokens"),
    ],
)
def test_a_template_that_cannot_frame_a_context_is_refused(template, kind, words):
    with pytest.raises(UserError, match=words) as caught:
        chat_frame(chatty(template), "Read: ", "", "tiny")
    assert type(caught.value) is kind


# ---------------------------------------------------------------------- the end of an answer


def test_an_answer_ends_at_the_models_ends_and_if_asked_at_any_line_break():
    tokenizer = byte_level()
    breaks = tokenizer.convert_tokens_to_ids(["Ċ", "ĊĊ", ".Ċ"])
    assert stop_ids(tokenizer, None, at_newline=False) == [2]
    assert stop_ids(tokenizer, GenerationConfig(eos_token_id=[7, 5]), at_newline=False) == [2, 5, 7]
    assert stop_ids(tokenizer, GenerationConfig(eos_token_id=5), at_newline=True) == sorted([2, 5, *breaks])
    assert stop_ids(llama_like(), None, at_newline=True) == [2, 3 + 0x0A]  # <0x00> is token 3
    assert stop_ids(word_level(), None, at_newline=True) == []


def test_half_of_a_surrogate_pair_is_refused_in_a_sentence() -> None:
    with pytest.raises(ArgumentError, match="no text that can be encoded"):
        encode_piece(byte_level(), "a \ud800 b")
