"""Copy-paste scores on attention written by hand, and the rule by which an answer passes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp.models.tokens.encoding import encode_piece
from probes.retrieval_heads.scores import NEAR_TIE_LOGITS, CopyScores, answer_recall, answer_steps, copy_scores, passes
from tests import tiny_tokenizers

# Places 1 to 5 are the needle, of which 3 to 5 are the gold answer. 12 stands outside the needle too, at place 6.
PROMPT = [5, 10, 11, 12, 10, 13, 12, 7]
NEEDLE, GOLD = (1, 6), (3, 6)
# The model writes the answer twice: places 8 to 13.
EMITTED = [12, 10, 13, 12, 10, 13]


def scored(first: list[int], second: list[int] | None = None, gap: float = 1.0) -> CopyScores:
    """Scores of one head that attends most to the places `first`, and by `gap` less to `second`."""
    attended = torch.tensor([first, second or [0] * len(first)]).T[None, None]
    logits = torch.tensor([1.0, 1.0 - gap]).expand(1, 1, len(first), 2)
    return copy_scores(attended, logits, torch.tensor(PROMPT + EMITTED), torch.tensor(EMITTED), NEEDLE, GOLD)


# The needle has 5 tokens, 4 of them distinct (10, 11, 12, 13); the gold part has 3.
@pytest.mark.parametrize(
    ("attended", "set_score", "count_score", "hits"),
    [
        pytest.param([3, 4, 5, 3, 4, 5], 3 / 4, 6 / 3, 6, id="an answer given twice: counted twice, one set"),
        pytest.param([3, 0, 0, 3, 0, 0], 1 / 4, 2 / 3, 2, id="one token copied twice"),
        pytest.param([0, 1, 0, 0, 1, 0], 1 / 4, 0, 2, id="copies from the needle outside the gold part: set only"),
        pytest.param([0, 1, 0, 0, 4, 0], 1 / 4, 1 / 3, 2, id="the same token once outside, once inside the gold part"),
        pytest.param([2, 2, 2, 2, 2, 2], 0, 0, 0, id="a needle token that is never written"),
        pytest.param([5, 3, 4, 5, 3, 4], 0, 0, 0, id="the answer's places at the wrong steps"),
        pytest.param([6, 0, 0, 6, 0, 0], 0, 0, 0, id="the right token just after the needle"),
        pytest.param([0, 0, 0, 8, 9, 10], 0, 0, 0, id="the right tokens in the answer written so far"),
        pytest.param([0, 0, 5, 0, 0, 0], 1 / 4, 1 / 3, 1, id="the needle's last place belongs to it"),
    ],
)
def test_a_copy_is_the_emitted_token_at_the_most_attended_place_of_the_needle(attended, set_score, count_score, hits):
    scores = scored(attended)
    assert scores.set_score.item() == pytest.approx(set_score)
    assert scores.count_score.item() == pytest.approx(count_score)
    assert scores.hits.item() == hits
    assert scores.near_ties.item() == 0


def test_every_head_keeps_its_place():
    attended = torch.zeros(2, 3, 6, 2, dtype=torch.long)
    attended[0, 2, :, 0] = torch.tensor([3, 4, 5, 0, 0, 0])
    attended[1, 0, :, 0] = torch.tensor([3, 0, 0, 0, 0, 0])
    context, emitted = torch.tensor(PROMPT + EMITTED), torch.tensor(EMITTED)
    scores = copy_scores(attended, torch.zeros(2, 3, 6, 2), context, emitted, NEEDLE, GOLD)
    assert scores.hits.tolist() == [[0, 0, 3], [1, 0, 0]]
    assert scores.set_score.tolist() == [[0, 0, 0.75], [0.25, 0, 0]]
    assert scores.count_score.tolist() == [[0, 0, 1.0], [pytest.approx(1 / 3), 0, 0]]


@given(st.data())
def test_scores_are_those_of_the_definition_spelt_out_token_by_token(data):
    context = data.draw(st.lists(st.integers(0, 4), min_size=12, max_size=12), label="context")
    start, gold_start, gold_end, end = sorted(data.draw(st.lists(st.integers(0, 8), min_size=4, max_size=4)))
    end, gold_end = max(end, gold_end + 1, start + 2), max(gold_end, gold_start + 1)
    emitted = context[-3:]
    places = data.draw(st.lists(st.integers(0, 11), min_size=3, max_size=3), label="places")
    attended = torch.tensor(places)[None, None, :, None].expand(1, 1, 3, 2)
    scores = copy_scores(
        attended,
        torch.zeros(1, 1, 3, 2),
        torch.tensor(context),
        torch.tensor(emitted),
        (start, end),
        (gold_start, gold_end),
    )
    copies = [(j, w) for j, w in zip(places, emitted, strict=True) if start <= j < end and context[j] == w]
    needle = set(context[start:end])
    assert scores.set_score.item() == pytest.approx(len({w for _, w in copies} & needle) / len(needle))
    from_gold = [j for j, _ in copies if gold_start <= j < gold_end]
    assert scores.count_score.item() == pytest.approx(len(from_gold) / (gold_end - gold_start))
    assert scores.hits.item() == len(copies)


@pytest.mark.parametrize(
    ("first", "second", "gap", "near_ties"),
    [
        pytest.param(3, 6, 0.0, 1, id="an exact tie of a copy with another place"),
        pytest.param(6, 3, 2**-9, 1, id="the copy comes a hair behind"),
        pytest.param(3, 6, NEAR_TIE_LOGITS, 0, id="a whole bfloat16 step apart"),
        pytest.param(0, 6, 0.0, 0, id="neither is a copy"),
    ],
)
def test_near_ties_count_where_half_precision_could_turn_a_copy_into_none(first, second, gap, near_ties):
    assert NEAR_TIE_LOGITS == 2**-8
    scores = scored([first, 0, 0, 0, 0, 0], [second, 0, 0, 0, 0, 0], gap)
    assert scores.near_ties.item() == near_ties
    assert scores.hits.item() == (first == 3)


def test_two_equal_copies_are_no_near_tie():
    # At step 1 the model writes 10, which the needle has at places 1 and 4: either way a copy.
    assert scored([0, 1, 0, 0, 0, 0], [0, 4, 0, 0, 0, 0], gap=0.0).near_ties.item() == 0


@pytest.mark.parametrize(
    ("emitted", "words", "steps"),
    [
        pytest.param([9, 1, 2, 9, 1, 2], ["It", " red", " boat", " or", " red", " boat"], [1, 2], id="first of two"),
        pytest.param([9, 1, 9], ["It", " red", "dish boat"], [], id="half of the ids, other text"),
        pytest.param([7, 8, 9, 6], ["A", " R", "ED", " Boat."], [1, 2, 3], id="other tokens, other case: by text"),
        pytest.param([7, 8, 1, 2], ["red ", "boat", " red", " boat"], [2, 3], id="exact ids before text"),
        pytest.param([1], [" red"], [], id="shorter than the answer"),
        pytest.param([], [], [], id="nothing written"),
        pytest.param([7, 8, 9], ["İİİİ", " red", " boat"], [1, 2], id="letters that grow when lowered"),
    ],
)
def test_answer_steps_are_the_first_place_where_the_gold_answer_was_written(emitted, words, steps):
    beginnings = ["".join(words[: step + 1]) for step in range(len(words))]
    assert answer_steps(emitted, [1, 2], beginnings, "red boat") == steps


@pytest.mark.parametrize(
    ("kind", "answer", "written"),
    [
        ("llama_like", "the cat and hat", "the cat and hat"),  # a chat answer has no leading space
        ("byte_level", "Zoë 7", "Zoë 7"),
        ("byte_level", "Łódź", "ŁÓDŹ"),
        ("llama_like", "Москва река", "москва река"),
        ("byte_level", "Straße", "STRASSE"),
        ("byte_level", "don't stop", "I said don’t stop here"),
        ("llama_like", "猫", "a 猫."),
    ],
)
def test_answer_steps_are_found_whatever_the_tokenizer_does_to_spaces_and_letters(kind, answer, written):
    tokenizer = getattr(tiny_tokenizers, kind)()
    gold, emitted = encode_piece(tokenizer, f" {answer}").ids, encode_piece(tokenizer, written).ids
    beginnings = tokenizer.batch_decode([emitted[: step + 1] for step in range(len(emitted))])
    steps = answer_steps(emitted, gold, beginnings, answer)
    assert steps == list(range(steps[0], steps[-1] + 1))
    assert (
        tokenizer.decode(emitted[steps[0] : steps[-1] + 1]).strip(" .").casefold().replace("’", "'")
        == answer.casefold()
    )


@pytest.mark.parametrize(
    ("wanted", "text", "recall"),
    [
        ("a red boat", "It was a red boat, I think.", 1.0),
        ("a red boat", "A BOAT!", 2 / 3),
        ("running horses", "the horse runs", 1.0),  # Porter stems: run, hors
        ("row row the boat", "row the boat", 3 / 4),  # a wanted word that comes twice must be written twice
        ("48-17-93", "48 17 39", 2 / 3),
        ("a red boat", "", 0.0),
    ],
)
def test_recall_is_the_share_of_wanted_stems_that_were_written(wanted, text, recall):
    assert answer_recall(wanted, text) == pytest.approx(recall)


@pytest.mark.parametrize(
    ("wanted", "text", "passed"), [("red boat", "red", False), ("a red boat", "a red", True), ("boats", "boat", True)]
)
def test_an_answer_passes_with_strictly_more_than_half(wanted, text, passed):
    assert passes(answer_recall(wanted, text)) is passed
