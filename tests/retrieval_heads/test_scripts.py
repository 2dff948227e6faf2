"""Prompts in every script under every kind of tokenizer: as long as asked, the needle where asked, no character split."""

import re
import unicodedata
from typing import Any

import pytest
import regex

from interp.errors import ArgumentError
from interp.stimuli.haystack import LONGEST_SENTENCE_TOKENS, build_haystack
from interp.stimuli.sentences import sentence_starts
from probes.retrieval_heads.needles import Needle
from probes.retrieval_heads.stimuli import build_control, build_frame, build_samples
from tests.script_texts import SCRIPTS, numbered
from tests.script_tokenizers import EXACT, KINDS

DEPTHS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
LENGTHS = (700, 901)


def needle_of(script: str) -> Needle:
    text = SCRIPTS[script]
    return Needle(script.replace(" ", "-"), text.needle, text.question, text.gold, "", "", True)


def samples_of(tokenizer: Any, script: str, texts: tuple[str, ...] | None = None) -> tuple[list, Any, Any]:
    texts = texts or (SCRIPTS[script].joiner.join(numbered(script, 120)),)
    frame = build_frame(tokenizer, needle_of(script), "plain", "auto", "a model")
    haystack = build_haystack(tokenizer, texts, max(LENGTHS), seed=0, key=script)
    cells = [(length, depth) for length in LENGTHS for depth in DEPTHS]
    return build_samples(tokenizer, needle_of(script), haystack, frame, cells), haystack, frame


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_needle_stands_within_a_sentence_of_its_depth_and_reads_as_written(kind, script):
    tokenizer, needle = kind(), needle_of(script)
    samples, _, frame = samples_of(tokenizer, script)
    longest = max(len(tokenizer(sentence)["input_ids"]) for sentence in numbered(script, 120)) + 2
    for sample in samples:
        assert len(sample.ids) == sample.context_tokens
        room = len(sample.ids) - len(frame.head) - len(frame.tail) - (sample.needle_end - sample.needle_start)
        reached = sample.needle_start - len(frame.head)
        assert -3 <= reached - room * sample.depth_fraction + longest <= longest + 3
        assert sample.reached_depth_fraction == pytest.approx(reached / room, abs=4 / room)
        before, gold, whole = (
            tokenizer.decode(sample.ids[slice(*span)])
            for span in ((None, sample.needle_start), (sample.gold_start, sample.gold_end), (None, None))
        )
        if kind in EXACT:
            for text in (before, gold, whole):
                assert "\ufffd" not in text
            assert needle.real_needle in gold
            assert len(gold.strip()) <= len(needle.real_needle) + 6
            assert needle.needle in whole
            after = whole[whole.index(needle.needle) + len(needle.needle) :]
            assert regex.match(r"\p{M}", after) is None
    spans = {(sample.context_tokens, sample.needle_start) for sample in samples}
    assert len(spans) == len(samples) or longest > 0.08 * min(LENGTHS)


@pytest.mark.parametrize("script", ["chinese", "thai", "hindi", "emoji", "code"])
@pytest.mark.parametrize("kind", EXACT, ids=lambda kind: kind.__name__)
def test_a_text_without_sentences_takes_needles_at_all_depths_between_whole_characters(kind, script):
    tokenizer = kind()
    bare = "".join(c for c in "".join(numbered(script, 200)) if not c.isspace() and unicodedata.category(c)[0] != "P")
    samples, haystack, frame = samples_of(tokenizer, script, (bare,))
    starts = {(sample.context_tokens, sample.needle_start) for sample in samples}
    assert len(starts) == len(samples)
    for sample in samples:
        context = len(sample.ids) - len(frame.head) - len(frame.tail) - (sample.needle_end - sample.needle_start)
        assert abs(sample.needle_start - len(frame.head) - sample.depth_fraction * context) <= 40  # a joined emoji
        before = tokenizer.decode(sample.ids[len(frame.head) : sample.needle_start])
        assert "\ufffd" not in tokenizer.decode(sample.ids)
        if sample.depth_fraction < 1:
            assert regex.findall(r"\X", bare)[: len(regex.findall(r"\X", before.strip()))] == regex.findall(
                r"\X", before.strip()
            )
    assert haystack.finer


def test_lines_are_boundaries_where_there_are_no_sentences():
    samples, _, _ = samples_of(EXACT[0](), "code", ("\n".join(f"value_{i} = compute(item_{i})" for i in range(300)),))
    for sample in samples:
        if 0 < sample.depth_fraction < 1:
            before = EXACT[0]().decode(sample.ids[: sample.needle_start])
            assert re.search(r"compute\(item_\d+\)$", before)


@pytest.mark.parametrize(
    "sentences",
    [
        ["河边的老桥关闭了。", "谁打开了它？", "“我不知道！”", "没有人说话……", "雪化了。"],
        ["「何も知らない！」", "彼は黙っていた。", "だれ？"],
        ["नदी बंद हुई। ", "किसने खोला? ", "वह गया॥ ", "अंत।"],
        ["أُغلق الجسر. ", "من فتحه؟ ", "لا أعرف!"],
        ["دریا بند ہوا۔ ", "کس نے کھولا؟ ", "چلو۔"],
        ["አሮጌው ድልድይ ተዘጋ። ", "ማን ከፈተው? ", "በረዶው።"],
        ["Ποιος το είδε; ", "Κανείς."],
        ["Где он? ", "«Не знаю!» ", "Он ушёл."],
        ["Où vont-ils ? ", "« Ici ! » ", "Non."],
        ["¡Qué frío! ", "¿Quién vino? ", "Nadie."],
        ["မြစ်ကူးတံတားပိတ်သည်။ ", "ဘယ်သူဖွင့်သလဲ။"],
        ["ស្ពានចាស់បិទ។ ", "នរណាបើក។"],
        ["Կամուրջը փակվեց։ ", "Ո՞վ բացեց։"],
    ],
    ids=lambda sentences: sentences[0].strip(),
)
def test_sentences_end_as_their_script_ends_them(sentences):
    assert sentence_starts("".join(sentences)) == [len("".join(sentences[:n])) for n in range(len(sentences))]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("control", ["</s>", "<|end|>", "[SEP]", "<s>", "<pad>"])
def test_what_looks_like_a_control_token_stays_text(kind, control):
    tokenizer = kind()
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    needle = Needle("n", f"The sign says {control} today.", f"Who wrote {control}?", "today", "", "", True)
    if (kind.__name__, control) == ("word_piece", "[SEP]"):  # as text it is SEP in brackets, which its vocabulary lacks
        with pytest.raises(ArgumentError, match="cannot spell 'SEP' in the question of needle n"):
            build_frame(tokenizer, needle, "plain", "never", "a model")
        return
    frame = build_frame(tokenizer, needle, "plain", "never", "a model")
    texts = (" ".join(f"The team saw {control} at noon. {i}" for i in range(60)),)
    haystack = build_haystack(tokenizer, texts, 300, seed=0, key="x")
    (sample,) = build_samples(tokenizer, needle, haystack, frame, [(300, 0.5)])
    assert special.isdisjoint(sample.ids)
    if kind in EXACT:
        assert tokenizer.decode(sample.ids).count(control) >= 6


def test_a_control_prompt_splits_no_character_either():
    tokenizer = EXACT[0]()
    _, haystack, frame = samples_of(tokenizer, "hindi")
    for length in range(300, 306):
        control = build_control(tokenizer, needle_of("hindi"), haystack, frame, context_tokens=length)
        assert len(control.ids) == length
        assert "\ufffd" not in tokenizer.decode(control.ids)


def test_letters_that_a_tokenizer_does_not_know_are_no_needle_and_no_haystack():
    tokenizer = KINDS[3]()
    unknown = Needle("n", "The sign says ʘǂŋ today.", "What does the sign say?", "ʘǂŋ", "", "", True)
    frame = build_frame(tokenizer, unknown, "plain", "never", "a model")
    haystack = build_haystack(tokenizer, (SCRIPTS["cyrillic"].text * 9,), 100, seed=0, key="x")
    with pytest.raises(ArgumentError, match="cannot spell 'ʘǂŋ', the answer of needle n: use other needles"):
        build_samples(tokenizer, unknown, haystack, frame, [(100, 0.5)])
    with pytest.raises(
        ArgumentError, match="of the haystack's tokens are letters that this model's tokenizer does not"
    ):
        build_haystack(tokenizer, ("ʘǂŋ ǃʘ " * 99,), 100, seed=0, key="x")


def test_only_as_much_text_is_encoded_as_is_used(monkeypatch):
    tokenizer = EXACT[0]()
    read = []
    monkeypatch.setattr(
        "interp.stimuli.haystack.encode_piece",
        lambda tokenizer, text: read.append(len(text)) or encode_piece(tokenizer, text),
    )
    from interp.models.tokens.encoding import encode_piece

    for text in ("A visitor counted ships in May. " * 200_000, "河边的老桥在春天关闭了" * 200_000):
        read.clear()
        build_haystack(tokenizer, (text,), 200, seed=0, key="x")
        assert max(read) <= 200 * 8 + 200
    assert LONGEST_SENTENCE_TOKENS < 200


@pytest.mark.parametrize("script", ["cyrillic", "chinese", "japanese", "hindi"])
@pytest.mark.parametrize("kind", EXACT, ids=lambda kind: kind.__name__)
def test_a_prompt_that_begins_with_its_needle_begins_as_the_tokenizer_begins_a_text(kind, script):
    tokenizer, needle = kind(), needle_of(script)
    frame = build_frame(tokenizer, needle, "plain", "auto", "a model")
    haystack = build_haystack(tokenizer, numbered(script, 200), 300, seed=0, key="x")
    (sample,) = build_samples(tokenizer, needle, haystack, frame, [(300, 0.0)])
    text = tokenizer.decode(sample.ids[len(frame.head) : sample.needle_end])
    assert text.strip() == needle.needle
    begun = tokenizer(needle.needle, add_special_tokens=False)["input_ids"]
    with_space = tokenizer(f" {needle.needle}", add_special_tokens=False)["input_ids"]
    written = list(sample.ids[len(frame.head) : sample.needle_end])
    assert written == begun if script in ("chinese", "japanese") else written in (begun, with_space)
    assert len(sample.ids) == 300


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_frame_knows_what_begins_a_text_whatever_its_name(kind):
    tokenizer = kind()
    frame = build_frame(tokenizer, needle_of("cyrillic"), "plain", "auto", "a model")
    assert frame.has_bos is bool(frame.head)
    assert not build_frame(tokenizer, needle_of("cyrillic"), "plain", "never", "a model").has_bos


def test_a_question_whose_letters_a_tokenizer_does_not_know_is_refused():
    tokenizer = KINDS[3]()
    asked = Needle("n", "The key is here.", "Where is the ʘǂŋ?", "here", "", "", True)
    with pytest.raises(ArgumentError, match="cannot spell 'ʘǂŋ' in the question of needle n: use other needles"):
        build_frame(tokenizer, asked, "plain", "never", "a model")
