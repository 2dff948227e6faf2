"""Words to tokens: over character offsets of the text as given, for tokenizers of the CLIP and the T5 type."""

import copy
import unicodedata
from typing import Any

import pytest

from interp.errors import ArgumentError
from interp.models.tokens.token_spans import Token, find_phrase, read_tokens, spelling, spelling_apart
from tests.tiny_pipelines import clip_tokenizer, t5_tokenizer

TEXT = "A  Red\ttriangle, and\na RED triangle."


def pieces(text: str, phrase: str, occurrence: int | None, tokenizer, start: int = 0) -> list[tuple[int, str]]:
    tokens = read_tokens(text, tokenizer, "some", start, 40)
    at = {token.position: token.token for token in tokens}
    return [(position, at[position]) for position in spelling(tokens, *find_phrase(text, phrase, occurrence))]


@pytest.mark.parametrize(
    ("phrase", "occurrence", "expected"),
    [
        ("red", 0, [(2, "red</w>")]),
        ("red triangle", 1, [(10, "red</w>"), (11, "tri"), (12, "ang"), (13, "le</w>")]),
        ("Triangle", 0, [(3, "tri"), (4, "ang"), (5, "le</w>")]),
        ("a", 1, [(9, "a</w>")]),
        ("and  a", None, [(7, "an"), (8, "d</w>"), (9, "a</w>")]),
    ],
)
def test_clip_tokens_of_a_phrase_in_any_case_and_spacing(phrase, occurrence, expected):
    assert pieces(TEXT, phrase, occurrence, clip_tokenizer()) == expected


def test_t5_tokens_of_a_phrase_stand_in_the_encoders_own_block():
    text = "a red triangle and a blue circle"
    assert pieces(text, "blue circle", None, t5_tokenizer(), start=77) == [(82, "▁blue"), (83, "▁cir"), (84, "cle")]
    assert pieces("Red", "red", None, t5_tokenizer()) == [(0, "▁"), (1, "R"), (2, "e"), (3, "d")]


@pytest.mark.parametrize("tokenizer", [clip_tokenizer(), t5_tokenizer()], ids=["clip", "t5"])
def test_offsets_are_into_the_text_as_given(tokenizer):
    text = "É \n  Ünïx  RED"  # composed, lower-cased and joined by the tokenizer
    for token in read_tokens(text, tokenizer, "some", 0, 40):
        if token.role != "text":
            assert token.char_start == token.char_end
    red = [t for t in read_tokens(text, tokenizer, "some", 0, 40) if t.role == "text" and t.char_start >= 11]
    assert "".join(t.token for t in red).replace("</w>", "").strip("▁").lower() == "red"
    assert spelling(red, *find_phrase(text, "red")) == tuple(t.position for t in red)


def test_roles_of_beginning_text_end_and_padding():
    clip = [token.role for token in read_tokens("red circle", clip_tokenizer(), "clip", 0, 6)]
    t5 = [token.role for token in read_tokens("red", t5_tokenizer(), "t5", 6, 4)]
    assert clip == ["bos", "text", "text", "eos", "pad", "pad"]
    assert t5 == ["text", "eos", "pad", "pad"]
    assert [t.role for t in read_tokens("", clip_tokenizer(), "clip", 0, 3)] == ["bos", "eos", "pad"]
    padded = read_tokens("red", clip_tokenizer("!"), "clip", 5, 5)
    assert [(t.position, t.token) for t in padded][-2:] == [(8, "!"), (9, "!")]


def test_a_text_that_fills_the_encoder_is_read_and_one_token_more_is_refused():
    assert [t.role for t in read_tokens("red red", clip_tokenizer(), "clip", 0, 4)][-1] == "eos"
    with pytest.raises(
        ArgumentError, match=r"is 5 tokens long for the encoder clip, which takes 4: shorten it \(nothing is"
    ):
        read_tokens("red red red", clip_tokenizer(), "clip", 0, 4)


@pytest.mark.parametrize(
    ("text", "phrase", "occurrence", "words"),
    [
        ("a red bat", "red cat", None, r"'red cat' is not in 'a red bat'\. Did you mean red bat\?"),
        ("two cats", "cat", None, "'cat' is not in 'two cats'. Did you mean cats"),
        ("a red bat", "zeppelin", None, "'zeppelin' is not in 'a red bat'.$"),
        ("bat and bat", "bat", None, "'bat' is 2 times in 'bat and bat': say which with occurrence, from 0 to 1"),
        ("bat and bat", "bat", 2, "'bat' is in 'bat and bat' 2 times, so there is no occurrence 2: count from 0"),
        ("bat", "bat", -1, "no occurrence -1"),
        ("bat", "  ", None, "phrase to look for is empty"),
    ],
)
def test_a_phrase_that_cannot_be_found_is_refused_in_a_sentence(text, phrase, occurrence, words):
    with pytest.raises(ArgumentError, match=words):
        find_phrase(text, phrase, occurrence)


def test_a_phrase_is_whole_words_and_taken_literally():
    assert find_phrase("acrobat bat", "bat") == (8, 11)
    assert find_phrase("a T-shirt", "t-shirt") == (2, 9)
    assert find_phrase("(a.b) axb", "a.b") == (1, 4)


# ---------------------------------------------------------------------- abroad

ENGLAND = "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
IN_WORDS = {
    "カレーを食べる": "カレ カ ー",  # he is not curry
    "スキーをする": "スキ キー",
    "カメラと犬": "カメ",  # a turtle is no camera
    "キャット": "キ ャット",
    "りっぱな犬": "り",
    "人々が歩く": "人",
    "いすゞの車": "いす",
    "ｶﾞｽ": "ｶ",
    "ｶｰ": "ｶ",
    "三ヶ月": "三",
    "เด็กๆเล่น": "เด็ก",  # children, not a child
    "10,000 dogs": "10 000",
    "2.5 cats": "2 5",
    "1/2 cake": "1 2",
    "10\u202f000 chats": "10 000",
    "10’000 Hunde": "10",
    "٢٫٥ قطط": "٢",
}


@pytest.mark.parametrize(
    ("text", "phrase", "place"),
    [
        ("the Dog's tail", "dog", (4, 7)),
        ("a blue-eyed cat", "blue", (2, 6)),
        ("a t-shirt", "shirt", (4, 9)),
        ("un café noir", "cafe\u0301", (3, 7)),  # composed in the text, decomposed in the phrase
        ("un cafe\u0301 noir", "café", (3, 8)),  # and the other way round
        ("一只红色的狗和猫", "狗", (5, 6)),
        ("一只红色的狗和猫", "红色的狗", (2, 6)),
        ("赤い犬と猫", "犬", (2, 3)),
        ("un chat 🐈 noir", "🐈", (8, 9)),
        ("красный Кот.", "кот", (8, 11)),
        ("लाल बिल्ली और कुत्ता", "बिल्ली", (4, 10)),
        ("\u05d7\u05b8\u05ea אדום", "אדום", (4, 8)),  # het, a point, tav, a blank
        ("แมวสีแดง", "แมว", (0, 3)),
        ("a\tred  cat", "red cat", (2, 10)),
        ("개와 곰은", "개", (0, 1)),  # Korean particles
        ("개와 곰은", "곰", (3, 4)),
        ("큰 고양이들에게", "고양이", (2, 5)),
        (unicodedata.normalize("NFD", "큰 개와 곰"), "개", (4, 6)),  # three letters and a blank before it
        ("\u2764\ufe0f and red", "\u2764", (0, 2)),
        ("\u2764 and red", "\u2764\ufe0f", (0, 1)),
        ("🇫🇷🇺🇸", "🇺🇸", (2, 4)),
        ("カレーを食べる", "カレー", (0, 3)),
        ("赤いキャットと犬", "キャット", (2, 6)),
        ("りっぱな犬", "犬", (4, 5)),
        ("人々が歩く", "人々", (0, 2)),
        ("ｶﾞｽ", "ｶﾞｽ", (0, 3)),
        (f"a {ENGLAND} flag", ENGLAND, (2, 9)),
        ("10,000 dogs", "10,000", (0, 6)),
        ("10 dogs, 2.5 cats", "2.5", (9, 12)),
        ("dogs 1, 2", "1", (5, 6)),
        ("2. a dog", "2", (0, 1)),
    ],
)
def test_a_phrase_is_found_inside_words_in_any_composition_and_script(
    text: str, phrase: str, place: tuple[int, int]
) -> None:
    assert find_phrase(text, phrase) == place


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("two cats", "cat"),
        ("a cafe\u0301", "cafe"),  # the accent belongs to the e
        ("बिल्ली", "बिल"),  # a virama follows: the syllable goes on
        ("👩\u200d🚀 on the moon", "👩"),  # an astronaut is no woman beside a rocket
        ("снежинка", "снеж"),
        ("개구리", "개"),  # a frog is no dog with a particle
        ("사과", "사"),  # 과 follows consonants
        ("무지개", "개"),
        ("🇫🇷🇺🇸", "🇷🇺"),
        *((text, part) for text, parts in IN_WORDS.items() for part in parts.split()),
        (f"{ENGLAND} a", "🏴"),
    ],
)
def test_a_part_of_a_word_or_of_a_character_is_no_item(text: str, phrase: str) -> None:
    with pytest.raises(ArgumentError, match="is not in"):
        find_phrase(text, phrase)


def test_a_phrase_within_itself_is_counted_without_overlaps() -> None:
    assert find_phrase("red red red", "red red") == (0, 7)


def test_a_token_that_is_shared_with_other_letters_or_unknown_stands_for_no_phrase() -> None:
    tokens = [
        Token("t5", 0, 5, "▁红狗", "text", 0, 2),
        Token("t5", 1, 6, "猫", "text", 2, 3),
        Token("t5", 2, 2, "<unk>", "text", 3, 4, unknown=True),
    ]
    text = "红狗猫🐈"
    assert spelling_apart(text, tokens, *find_phrase(text, "猫")) == (1,)
    with pytest.raises(ArgumentError, match="'狗' shares the token '红狗' of the encoder t5"):
        spelling_apart(text, tokens, *find_phrase(text, "狗"))
    with pytest.raises(ArgumentError, match="encoder t5 does not know '🐈'"):
        spelling_apart(text, tokens, *find_phrase(text, "🐈"))


def test_characters_that_t5_has_no_token_for_are_known_to_be_unknown() -> None:
    read = read_tokens("red 狗", t5_tokenizer(), "t5", 0, 8)
    assert [token.unknown for token in read if token.role == "text"][-1]
    assert not any(token.unknown for token in read_tokens("red 狗", clip_tokenizer(), "clip", 0, 12))


@pytest.mark.parametrize("tokenizer", [clip_tokenizer, t5_tokenizer])
def test_positions_behind_a_placeholder_of_several_vectors_are_the_encoders_own(tokenizer: Any) -> None:
    from diffusers.loaders import TextualInversionLoaderMixin

    inverted = copy.deepcopy(tokenizer())
    inverted.add_tokens(["<dog>", "<dog>_1", "<dog>_2", "<cat>"])
    convert = TextualInversionLoaderMixin().maybe_convert_prompt
    text = "a <dog> and red <cat>"
    read = read_tokens(text, inverted, "e", 0, 16, convert)
    ids = inverted(convert(text, inverted))["input_ids"]
    assert [t.token_id for t in read] == [*ids, *[inverted.pad_token_id] * (16 - len(ids))]
    spelled = {
        name: [read[p].token for p in spelling(read, *find_phrase(text, name))] for name in ("<dog>", "red", "<cat>")
    }
    assert [token for token in spelled["<dog>"] if token != "▁"] == ["<dog>", "<dog>_1", "<dog>_2"]
    assert "".join(spelled["red"]).strip("▁").removesuffix("</w>") == "red"
    assert [token for token in spelled["<cat>"] if token != "▁"] == ["<cat>"]
