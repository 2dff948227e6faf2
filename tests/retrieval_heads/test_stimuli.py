"""Prompts under several kinds of tokenizer: exact length, the needle word for word in its place, between sentences."""

import json
from itertools import pairwise
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from interp.errors import ArgumentError
from interp.models.tokens.encoding import encode_piece
from interp.stimuli.haystack import Haystack, build_haystack
from interp.stimuli.sentences import sentence_starts
from probes.retrieval_heads.needles import Needle
from probes.retrieval_heads.stimuli import build_control, build_frame, build_samples, gold_span

WHO = ("Mr. Hall", "The U.S. envoy", "J. R. Moss", "A visitor from Kent", "Mrs. Lind", "Nobody", '"Reds" of Ely')
DID = ("counted 14 ships in the harbour", "lost a coat worth $3.50", "shut the shop early", 'said "no" to the plan')
SENTENCES = [f"{who} {did} {when}" for who in WHO for did in DID for when in ("last May.", "again!", "again, why?")]
TEXTS = tuple(" ".join(SENTENCES[first : first + 12]) for first in range(0, len(SENTENCES), 12))

KEEPER = Needle(
    "keeper",
    needle="The keeper of Varrow Island is called Tobias Quillfeather.",
    question="What is the keeper of Varrow Island called?",
    real_needle="Tobias Quillfeather",
    answer="",
    form="name",
    literal=True,
)
CAFE = Needle(
    "cafe",
    needle="“Café Noé” opens at 7:45, not earlier, on rainy days.",
    question="When does the café open?",
    real_needle="7:45, not earlier,",
    answer="",
    form="time",
    literal=True,
)
ASKED = "Read the text below, then answer the question about it.\n\nQuestion: Based on the content of the book\nAnswer:"
PROSE = [*TEXTS, ASKED, KEEPER.question, CAFE.question]
EVERYTHING = [*PROSE, KEEPER.needle, CAFE.needle]
"""For closed vocabularies, which cannot spell a word they have not seen."""


def _wrapped(tokenizer: Tokenizer, **special: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **special)


def words_alone() -> PreTrainedTokenizerFast:
    """Whole words; spaces belong to no token."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.train_from_iterator(EVERYTHING, trainers.WordLevelTrainer(special_tokens=["<unk>"]))
    return _wrapped(tokenizer)


def words_with_spaces() -> PreTrainedTokenizerFast:
    """Whole words with the space before them, and single signs."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?\w+|[^\w]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    every = [*EVERYTHING, *(" " + text for text in EVERYTHING)]
    tokenizer.train_from_iterator(every, trainers.WordLevelTrainer(special_tokens=["<unk>"]))
    return _wrapped(tokenizer)


def byte_level() -> PreTrainedTokenizerFast:
    """As GPT-2's: the space belongs to the word after it, no beginning-of-sequence token is added."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|end|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(PROSE, trainer)
    return _wrapped(tokenizer, bos_token="<|end|>", eos_token="<|end|>")


def llama() -> PreTrainedTokenizerFast:
    """As Llama 2's: spaces become "▁", one is invented in front, unknown letters are bytes, <s> comes first."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    tokenizer.train_from_iterator([text.replace("\n", " ") for text in PROSE], trainer)
    learnt = json.loads(tokenizer.to_str())["model"]
    n_learnt = len(learnt["vocab"])
    vocabulary = learnt["vocab"] | {f"<0x{byte:02X}>": n_learnt + byte for byte in range(256)}
    merges = [tuple(merge) for merge in learnt["merges"]]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", vocabulary["<s>"])])
    return _wrapped(tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def unigram() -> PreTrainedTokenizerFast:
    """As T5's: likeliest pieces, "▁" for spaces."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=260, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(EVERYTHING, trainer)
    return _wrapped(tokenizer)


KINDS = (words_alone, words_with_spaces, byte_level, llama, unigram)


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.__name__)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return request.param()


def samples_of(tokenizer: Any, needle: Needle, cells: list, texts: tuple[str, ...] = TEXTS) -> tuple:
    frame = build_frame(tokenizer, needle, "plain", "auto", "a model")
    haystack = build_haystack(tokenizer, texts, max(tokens for tokens, _ in cells), seed=0, key=needle.id)
    return build_samples(tokenizer, needle, haystack, frame, cells), haystack, frame


DEPTHS = (0.0, 0.1, 0.3, 0.5, 0.77, 0.95, 1.0)


@pytest.mark.parametrize("needle", [KEEPER, CAFE], ids=lambda needle: needle.id)
@pytest.mark.parametrize("n_tokens", [260, 301])
def test_a_prompt_is_as_long_as_asked_and_holds_the_needle_word_for_word(tokenizer, needle, n_tokens):
    samples, _, frame = samples_of(tokenizer, needle, [(n_tokens, depth) for depth in DEPTHS])
    for sample in samples:
        assert len(sample.ids) == sample.context_tokens == n_tokens
        whole, before, until_end = (
            tokenizer.decode(sample.ids[:end]) for end in (None, sample.needle_start, sample.needle_end)
        )
        assert whole.startswith(until_end)
        assert until_end.removeprefix(before).lstrip() == needle.needle
        assert whole.removeprefix(until_end)[0].isspace()  # glued to no word after it
        assert tokenizer.decode(sample.ids[sample.needle_start : sample.needle_end]).strip() == needle.needle
        if 0 < sample.depth_fraction < 1 and sample.needle_start > len(frame.head):
            assert before.rstrip().endswith(tuple(SENTENCES))
        gold = sample.ids[sample.gold_start : sample.gold_end]
        assert gold == sample.gold_ids
        assert needle.real_needle in tokenizer.decode(gold)
        # No token too many: without its first or its last token the answer is not whole.
        assert needle.real_needle not in tokenizer.decode(gold[1:])
        assert needle.real_needle not in tokenizer.decode(gold[:-1])
    starts = [sample.needle_start for sample in samples]
    assert starts == sorted(starts)
    assert len(set(starts)) >= 5  # not all walked back to one place
    assert starts[0] == len(frame.head)
    assert samples[-1].needle_end == n_tokens - len(frame.tail)


def test_samples_of_one_haystack_share_their_tokens_up_to_the_first_needle(tokenizer):
    cells = [(tokens, depth) for tokens in (260, 301) for depth in (0.3, 0.6, 1.0)]
    samples, _, frame = samples_of(tokenizer, KEEPER, cells)
    for one, other in pairwise(sorted(samples, key=lambda sample: sample.needle_start)):
        assert one.needle_start > len(frame.head)
        assert one.ids[: one.needle_start] == other.ids[: one.needle_start]


def test_the_control_is_as_long_and_has_no_needle(tokenizer):
    _, haystack, frame = samples_of(tokenizer, KEEPER, [(200, 0.5)])
    control = build_control(tokenizer, KEEPER, haystack, frame, context_tokens=200)
    assert len(control.ids) == control.context_tokens == 200
    assert (control.needle_start, control.needle_end, control.gold_start, control.gold_end) == (-1, -1, -1, -1)
    assert not control.has_needle
    assert "Quillfeather" not in tokenizer.decode(control.ids)
    assert KEEPER.question in tokenizer.decode(control.ids)


def test_every_sentence_of_the_haystack_begins_at_a_boundary(tokenizer):
    haystack = build_haystack(tokenizer, TEXTS, 400, seed=3, key="x")
    ends = [*haystack.boundaries[1:], None]
    parts = [tokenizer.decode(haystack.ids[a:b]).strip() for a, b in zip(haystack.boundaries, ends, strict=True)]
    assert set(parts) <= set(SENTENCES)
    assert len(parts) == len(set(parts)) >= 24
    again, other = (build_haystack(tokenizer, TEXTS, 400, seed=3, key=key) for key in ("x", "y"))
    assert haystack == again
    assert haystack.ids != other.ids


@pytest.mark.parametrize(
    "sentences",
    [
        ["He met Mr. Smith and Mrs. Jones. ", "She ran."],
        ["J. R. Ross left the U.S. Army in Jan. 1990. ", "He wept."],
        ['"Stop!" she said. ', '"Why?" ', "Nobody knew."],
        ["(It rained.) ", "“Yes,” he said. ", "‘Never.’ ", "It cost $3.50 at 5 p.m. sharp! ", "12 men came."],
        ["Wait... what? ", "Yes."],
        ["The end.\n\n", "A new paragraph."],
        ["no full stop"],
        pytest.param(["Il dort. ", "Étienne part."], id="a capital with an accent"),
        pytest.param(["Он ушёл. ", "Потом пришёл."], id="another alphabet"),
    ],
)
def test_sentences_begin_after_full_stops_but_not_after_abbreviations(sentences):
    assert sentence_starts("".join(sentences)) == [len("".join(sentences[:n])) for n in range(len(sentences))]


@pytest.mark.parametrize(
    ("depth", "index"), [(0.0, 0), (0.099, 0), (0.1, 10), (0.29, 10), (0.3, 30), (0.9, 60), (0.999, 60), (1.0, 100)]
)
def test_the_needle_walks_back_to_the_sentence_before_its_depth(depth, index):
    tokenizer = words_alone()
    frame = build_frame(tokenizer, KEEPER, "plain", "auto", "a model")
    haystack = Haystack(tuple(range(200)), (0, 10, 30, 60, 120))
    n_tokens = 100 + len(KEEPER.needle.split()) + len(frame.tail)  # room for 100 tokens of the haystack
    (sample,) = build_samples(tokenizer, KEEPER, haystack, frame, [(n_tokens, depth)])
    assert sample.needle_start == index
    assert sample.ids == (*range(index), *sample.ids[index : index + 9], *range(index, 100), *frame.tail)
    assert (sample.gold_start, sample.gold_end) == (index + 7, index + 9)


def test_different_cells_have_different_sample_ids():
    cells = [(n, depth) for n in (200, 220) for depth in (0.5, 0.502, 0.505, 1.0)]
    samples, _, _ = samples_of(byte_level(), KEEPER, cells)
    assert len({sample.sample_id for sample in samples}) == len(cells)


def test_the_needle_is_glued_to_no_word_in_a_text_of_many_lines():
    lines = tuple("\n\n".join(SENTENCES[first : first + 12]) for first in range(0, 84, 12))
    samples, _, _ = samples_of(byte_level(), KEEPER, [(200, depth) for depth in (0.3, 0.6)], lines)
    for sample in samples:
        whole = byte_level().decode(sample.ids)
        place = whole.index(KEEPER.needle)
        assert whole[place - 1].isspace()
        assert whole[place + len(KEEPER.needle)].isspace()


def test_the_gold_span_covers_the_whole_word_not_the_same_letters_in_another():
    needle = Needle("cap", "The captain wears a cap.", "What?", "cap", "", "", True)
    tokenizer = byte_level()
    piece = encode_piece(tokenizer, " " + needle.needle)
    first, end = gold_span(piece, needle)
    assert (piece.offsets[first][0], piece.offsets[end - 1][1]) == (20, 24)  # " cap", behind " The captain wears a"


def test_a_context_shorter_than_its_needle_is_refused_with_the_length_it_needs(tokenizer):
    (_, haystack, frame), piece = (
        samples_of(tokenizer, KEEPER, [(200, 0.5)]),
        encode_piece(tokenizer, " " + KEEPER.needle),
    )
    least = len(frame.head) + len(piece.ids) + len(frame.tail)
    (tight,) = build_samples(tokenizer, KEEPER, haystack, frame, [(least, 0.5)])
    assert tight.ids == (*frame.head, *piece.ids, *frame.tail)
    wanted = f"The needle keeper and its question take {least} tokens and the context has {least - 1}: raise --context"
    with pytest.raises(ArgumentError, match=wanted):
        build_samples(tokenizer, KEEPER, haystack, frame, [(least - 1, 0.5)])


def test_a_haystack_that_is_too_short_is_refused_with_both_lengths():
    with pytest.raises(ArgumentError, match=r"holds 3 tokens and 4 are needed: add text to it or lower --context-tok"):
        build_haystack(words_alone(), ("A visitor", "Nobody "), 4, seed=0, key="x")


def test_long_words_are_no_reason_to_call_a_haystack_too_short():
    texts = tuple("Donaudampfschiff " * 10 for _ in range(10))  # 100 tokens of 16 letters and a space
    assert len(build_haystack(words_alone(), texts, 60, seed=0, key="x").ids) >= 60


TEMPLATE = "{% for m in messages %}<|user|>{{ m['content'] }}<|end|>{% endfor %}{% if add_generation_prompt %}<|me|>{% endif %}"


@pytest.mark.parametrize(
    ("prompt_format", "template", "used", "begins", "ends"),
    [
        ("plain", None, "plain", "", f"\n\nQuestion: {KEEPER.question}\nAnswer:"),
        ("auto", None, "plain", "", f"\n\nQuestion: {KEEPER.question}\nAnswer:"),
        # Word for word what the public reference script puts behind its context.
        ("reference", None, "reference", "", f"Based on the content of the book, Question: {KEEPER.question}\nAnswer:"),
        ("auto", TEMPLATE, "chat", "<|user|>Read", "<|end|><|me|>"),
        ("chat", TEMPLATE, "chat", "<|user|>Read", "<|end|><|me|>"),
        ("plain", TEMPLATE, "plain", "", f"\n\nQuestion: {KEEPER.question}\nAnswer:"),
    ],
)
def test_the_prompt_format_frames_the_context(prompt_format, template, used, begins, ends):
    tokenizer = byte_level()
    tokenizer.chat_template = template
    frame = build_frame(tokenizer, KEEPER, prompt_format, "auto", "a model")
    head, tail = tokenizer.decode(frame.head), tokenizer.decode(frame.tail)
    assert frame.prompt_format == used
    assert (head if not begins else head[: len(begins)]) == begins
    assert tail.endswith(ends)
    assert tail.count(f"Question: {KEEPER.question}") == 1
    assert not frame.has_bos


@pytest.mark.parametrize(
    ("kind", "policy", "has_bos"),
    [(llama, "auto", True), (llama, "never", False), (byte_level, "auto", False), (byte_level, "always", True)],
)
def test_the_frame_says_whether_prompts_begin_with_the_beginning_token(kind, policy, has_bos):
    tokenizer = kind()
    frame = build_frame(tokenizer, KEEPER, "plain", policy, "a model")
    assert frame.head == ((tokenizer.bos_token_id,) if has_bos else ())
    assert frame.has_bos is has_bos
    tokenizer.chat_template = "<s>" + TEMPLATE if kind is llama else TEMPLATE
    assert build_frame(tokenizer, KEEPER, "chat", policy, "a model").has_bos is (kind is llama)  # as the template says


@pytest.mark.parametrize(
    ("prompt_format", "policy", "said"),
    [("chat", "auto", "a model has no chat template"), ("plain", "always", "has no beginning-of-sequence token")],
)
def test_a_model_that_cannot_be_prompted_so_is_refused(prompt_format, policy, said):
    with pytest.raises(ArgumentError, match=said):
        build_frame(words_alone(), KEEPER, prompt_format, policy, "a model")
