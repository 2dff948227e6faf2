"""Where sentences begin and end, case by case: quotes, notes, initials, ordinals and dialogue; and their words shuffled."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import permutations

import pytest

from interp.stimuli.sentences import sentence_starts, sentences, without_stop
from probes.verbatim_memory.trials import scramble

SPLIT = """
ეს წიგნია.|ის სახლია.|სად არის?|აქ!
Er sagte: „Ja.“|Er ging.|„Nein.“|»Ja.«|Sie kam.|›Gut.‹|»Ja!«|»Nein!«
Er sagte: ‚Ja.‘|Er ging.
« Oui. »|Il part.|« Non ! »|Elle reste.
He left.[1]|Then came home.[2][3]|She ran.[12, 14]|They met.[a]|It is so.[citation needed]|So he says. [4]|Then he ran.
**Bold.**|Next.|*One.*|_Two._|**Three**.|*Four*.
He left.*|Then he came.†|So it was.¹|The end.²³|All over.
(He left.)|(She did too!)|Then nothing.
“He left.”|‘She did too.’|"So it is."|'Then nothing.'
А. С. Пушкин жил там.|Его знали.|А.С. Пушкин и Л. Н. Толстой.|Потом ушли.
Ο Κ. Π. Καβάφης ήταν εκεί.|Έφυγε.
É. Zola et J.-P. Sartre sont là.|Ils lisent.
Ł. Żak i Ś. Ćma przyszli.|Potem poszli.
Am 3. Mai kam er.|Am 12. April ging er.|Es war der 1. August.|Dann kam der 30. September.
Im 19. Jahrhundert war das so.|Der 2. Weltkrieg begann.|Zum 3. Mal kam er.|König Ludwig der XIV. Herr von Paris kam.
He was born in 1950.|Then he left.|He was 30.|April came.|It was page 12.|May was there in 3.|She left.
— Да.|— Нет.|— Почему?|– Не знаю!|Он ушёл.
― Ναι.|― Όχι.
— Да, — сказал он. — Нет.
Das ist z. B. Wasser.|Das ist i. A. Müller.
One.|- Two.|* Three.|• Four.
「はい。」と言った。|彼は去った。|「何？」って聞いた。|「行こう！」、と彼は叫んだ。|「何も知らない！」|だれもいない。
「はい。」|ところが彼は来た。|「はい。」|とても寒い。|「はい。」の声がした。|（笑う。）|そして去った。
“我不知道！”，他说。|“好。”|他走了。
El Sr. Pérez y la Sra. Gil llegaron.|Il Sig. Rossi partì.|Hr. Meier und Nr. 5.|Mme. Curie arriva.
iPhone sales rose. iPads fell.
"""
LINES = [line for line in SPLIT.strip().splitlines() if "— Да, —" not in line]


def as_text(line: str) -> tuple[str, list[str]]:
    """A text and its sentences, from a line with | where one ends; no blank between those that end in 。 ！ or ？"""
    parts = line.split("|")
    unspaced = re.search(r"[\u3000-\u9fff]", line) is not None
    joiner = "\n" if parts[0] == "One." else "" if unspaced else " "
    return joiner.join(parts), parts


@pytest.mark.parametrize("line", LINES)
def test_a_text_is_split_where_its_sentences_end(line):
    text, parts = as_text(line)
    assert sentences(text) == parts


def test_a_dash_within_a_speech_begins_no_sentence_before_a_small_letter():
    assert sentences("— Да. — сказал он. — Нет.") == ["— Да. — сказал он.", "— Нет."]


WORDS_AND_STOPS = {
    "Tibetan": ("བོད་ མཐོ་སྒང་ཡིན", "།༎༏༐༑༔"),
    "Armenian": ("Բարեւ ձեզ", "։:"),
    "Ethiopic": ("ልጆቹ ቀኑን ተጫወቱ", "።፧፨"),
    "Khmer": ("គាត់នៅផ្ទះ", "។៕៚"),
    "Burmese": ("မိုး၊ လေ ရွာသည်", "။"),
    "Urdu": ("پل بند ہوا", "۔؟"),
    "Hindi": ("पुराना पुल बंद हुआ", "।॥"),
    "Bengali": ("আমি যাই", "।॥"),
    "Greek": ("Ποιος το είδε", ";\u037e"),
    "Japanese": ("彼は去った", "。！？｡"),
    "Hebrew verses": ("בְּרֵאשִׁית בָּרָא", "׃"),
    "Sinhala": ("ගෙදර යයි", "෴"),
    "Syriac": ("ܫܠܡܐ ܠܟ", "܀"),
    "Mongolian": ("ᠮᠣᠩᠭᠣᠯ ᠬᠡᠯᠡ", "᠃᠉"),
    "Meetei": ("ꯃꯅꯤꯄꯨꯔ", "꯫"),
    "Santali": ("ᱥᱟᱱᱛᱟᱲ", "᱾᱿"),
}


@pytest.mark.parametrize("script", WORDS_AND_STOPS)
def test_each_stop_of_a_script_ends_a_sentence_and_is_its_stop(script):
    """Three times, with what closes behind it, and a blank or none; and no other place does."""
    words, stops = WORDS_AND_STOPS[script]
    for stop in stops:
        for closing in ("", "”"):
            one = f"{words}{stop}{closing}"
            assert sentences(f"{one} {one}\n{one}") == [one] * 3
            assert without_stop(one) == (words, f"{stop}{closing}")
            if stop != ":":
                assert sentences(one + one) == [one] * 2


@pytest.mark.parametrize("stop", ["། །", "།། །།", "༎ ༎", "།།"])
def test_the_strokes_between_two_verses_are_one_stop(stop):
    verse = "བོད་ མཐོ་སྒང་ཡིན"
    assert sentences(f"{verse}{stop}{verse}།") == [f"{verse}{stop}", f"{verse}།"]
    assert without_stop(f"{verse}{stop}") == (verse, stop)


@pytest.mark.parametrize("text", ["a: b: c", "Τέλος· αρχή, μέση", "ကျွန်တော်၊ သူ၊ သူမ", "Բարեւ,5:30 ձեզ", "tell me; now"])
def test_colons_and_commas_end_no_sentence(text):
    assert sentences(text) == [text]


@pytest.mark.parametrize(
    ("sentence", "stop"),
    [
        ("He left.[1]", ".[1]"),
        ("**Bold.**", ".**"),
        ("„Ja.“", ".“"),
        ("»Ja!«", "!«"),
        ("« Oui. »", ". »"),
        ("So it was.¹", ".¹"),
        ("「はい。」", "。」"),
        ("What?!”)", "?!”)"),
        ("No stop", ""),
        ("list[1]", ""),
        ("Τι;", ";"),
    ],
)
def test_a_stop_is_taken_with_what_it_closes(sentence, stop):
    assert without_stop(sentence) == (sentence.removesuffix(stop), stop)


def is_in_order(mixed: str, order: Sequence[tuple[str, str]]) -> bool:
    """Whether a text is these sentences, one after the other, each with its words in any order before its stop."""
    for words, stop in order:
        part, mixed = mixed[: len(words)], mixed[len(words) :]
        if Counter(part.split()) != Counter((words[0].lower() + words[1:]).split()) or not mixed.startswith(stop):
            return False
        mixed = mixed.removeprefix(stop).lstrip()
    return not mixed


@pytest.mark.parametrize(
    "text",
    [
        "He left.[1] Then came home. She ran.",
        "« Oui, je le sais bien. » Il part avec elle.",
        "Er sagte „Ja und Nein.“ Er ging weg.",
        "**it is so.** He went home.",
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_scrambling_keeps_a_stop_and_what_it_closes_at_the_end_of_its_sentence(text, seed):
    mixed = scramble(text, seed)
    assert any(is_in_order(mixed, order) for order in permutations(map(without_stop, sentences(text))))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("İzmir güzel bir şehir.", "izmir"),
        ("Işık yandı ve söndü.", "ışık"),
        ("It is so, they say.", "it"),
        ("ΟΔΟΣ ήταν εκεί.", "οδος"),
    ],
)
def test_a_first_word_is_written_small_as_its_language_does(text, word):
    assert word in scramble(text, 0).rstrip(".").split()


def test_starts_are_places_of_the_text():
    text = "He left.[1]  Then\tcame. „Ja.“ Er"
    assert [text[start:].split(maxsplit=1)[0] for start in sentence_starts(text)] == ["He", "Then", "„Ja.“", "Er"]
