"""The ways to go on from a prompt: by hand, and on a tiny model against what they are equal to."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from interp.errors import ArgumentError, UserError
from interp.models.bytes.covers import END, Expected, combine
from interp.models.language.word_tokens import Vocabulary
from probes.byte_bias.experiment import ByteBias
from probes.byte_bias.measure import measure_prompts
from probes.byte_bias.scores import beam, divergence_nats, healed, missed_share, total_log_mass
from probes.byte_bias.settings import Prompt, Settings
from probes.byte_bias.summaries import beyond_one_piece, summarise
from probes.byte_bias.words import measure_words, read_texts
from tests.tiny_models import tiny
from tests.tiny_tokenizers import byte_level, llama_like, word_level

A, B, C = (ord(letter) for letter in "abc")


def outcomes(**p: float) -> np.ndarray:
    found = np.zeros(END + 1)
    for letter, value in p.items():
        found[ord(letter)] = value
    return found


def by_hand() -> dict[tuple[int, ...], Expected]:
    """The text "ab" of tokens a, b, ab, abc: 0.2 goes to a, of which 0.5 to b; 0.3 to ab, 0.4 to abc, 0.1 to the end.

    The tokenizer writes ab as one token, so a, b is invalid; whatever else follows a is valid.
    """
    begin = Expected(0)
    begin.masses = [np.append(outcomes(a=0.9)[:END], 0.1), outcomes(b=0.7), outcomes(c=0.4)]
    begin.raw_masses = begin.masses
    begin.log_children = {0: (np.log(0.2), np.log(0.2)), 2: (np.log(0.3), np.log(0.3))}
    behind_a = Expected(1, invalid_share=0.5)
    behind_a.masses, behind_a.raw_masses = [outcomes(c=1.0), outcomes()], [outcomes(b=0.5, c=0.5), outcomes()]
    behind_ab = Expected(2)
    behind_ab.masses = behind_ab.raw_masses = [outcomes(a=0.25, c=0.75)]
    return {(): begin, (0,): behind_a, (2,): behind_ab}


def test_covers_are_put_together_by_hand() -> None:
    reading = combine(b"ab", 0, 0, by_hand())
    p = np.exp(reading.log_p)
    assert p[0, A] == pytest.approx(0.9)
    assert p[0, END] == pytest.approx(0.1)
    assert p[1, B] == pytest.approx(0.7 / 0.9)
    assert p[1, C] == pytest.approx(0.2 / 0.9)
    assert p[2, C] == pytest.approx((0.4 + 0.3 * 0.75) / 0.7)
    assert p[2, A] == pytest.approx(0.3 * 0.25 / 0.7)
    assert reading.log_prob() == pytest.approx(np.log(0.9 * 0.7 / 0.9))
    assert reading.n_covers == [1, 2, 2]
    assert reading.invalid_share[1] == pytest.approx(0.5)


def test_healing_by_hand() -> None:
    expected = by_hand()
    assert healed(expected, (2,), 2, 0)[[A, C]] == pytest.approx([0.25, 0.75])
    one = healed(expected, (2,), 2, 1)
    assert one[C] == pytest.approx((0.4 + 0.3 * 0.75) / 0.7)
    assert missed_share(expected, (2,), 2, 0) == pytest.approx(0.4 / 0.7)
    assert missed_share(expected, (2,), 2, 1) == pytest.approx(0)
    assert divergence_nats(one, one) == 0
    assert divergence_nats(outcomes(a=0.5, b=0.5), outcomes(a=0.25, b=0.75)) == pytest.approx(
        0.5 * np.log(2) + 0.5 * np.log(2 / 3)
    )


def test_a_beam_by_hand() -> None:
    expected = by_hand()
    narrow, wide = (beam(expected, b"ab", kept) for kept in (1, 9))
    assert np.exp(narrow[1][1]) == pytest.approx(0.7)  # a as a token of its own, 0.2, is dropped
    assert narrow[1][0][B] == pytest.approx(1)
    assert np.exp(narrow[2][1]) == pytest.approx(0.4)  # abc is heavier than ab
    exact = combine(b"ab", 0, 0, expected)
    for place in (0, 1, 2):
        assert wide[place][0] == pytest.approx(np.exp(exact.log_p[place]))
        assert wide[place][1] == pytest.approx(total_log_mass(expected, place))
        assert narrow[place][1] <= wide[place][1] + 1e-12
    expected[()].masses.pop()  # no token goes on from "ab": what the narrow beam keeps is dead there
    del expected[()].log_children[2], expected[2,]
    assert sorted(beam(expected, b"ab", 1)) == [0, 1]


@pytest.mark.parametrize("tokenizer", [byte_level, llama_like])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_at_a_word_the_naive_way_misses_what_the_exact_one_sees(tokenizer, family: str) -> None:  # type: ignore[no-untyped-def]
    model = tiny(family, tokenizer=tokenizer(), vocab_size=len(tokenizer()))
    prompts = [Prompt("words-0", "words", "the", (" c", "at", " and"))]
    tables = measure_prompts(model, prompts, Settings(heal_tokens=(1, 2)))
    places = tables["places"].set_index(["cut_bytes", "way"])
    inside, border = len("the c"), len("the cat")
    assert not places.loc[(inside, "exact"), "is_token_border"]
    assert places.loc[(border, "exact"), "is_token_border"]
    assert places.loc[(inside, "naive"), "missed_share"] > places.loc[(inside, "heal 1"), "missed_share"]
    assert (places.xs("exact", level="way")["kl_nats"] == 0).all()
    assert (places["missed_share"].between(0, 1)).all()
    missed = places["missed_share"].unstack("way")
    assert (missed["beam 5"] <= missed["beam 2"] + 1e-9).all()
    ratio = tables["continuations"].set_index("cut_bytes")
    exact = places.xs("exact", level="way")["true_byte_nats"]
    assert (ratio["exact_nats"] >= exact - 1e-9).all()
    typed, after = (model.tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("the c", "at and"))
    if tokenizer is byte_level:  # no blank is written before a text, so the continuation's own tokens are these
        read = torch.tensor([[model.tokenizer.bos_token_id, *typed, *after]])
        log_p = model.hf(read).logits[0].log_softmax(-1)[len(typed) : -1]
        assert ratio.loc[inside, "typed_nats"] == pytest.approx(-float(log_p[range(len(after)), after].sum()), abs=1e-4)
    wanted = (ratio["typed_nats"] - ratio["covers_nats"]) / np.log(10)
    assert ratio["log10_ratio"].tolist() == pytest.approx(wanted.tolist())


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_where_a_prompt_has_one_cover_it_costs_nothing(family: str) -> None:
    """Every byte of these letters is a token: whatever a model gives to broken letters is no fault of the prompt's end."""
    model = tiny(family, tokenizer=byte_level(), vocab_size=len(byte_level()))
    prompts = [Prompt("letters-0", "letters", "我们", ("去", "北", "京"))]
    rows = measure_prompts(model, prompts, Settings())["continuations"]
    assert rows["is_token_border"].all()
    assert rows["log10_ratio"].tolist() == pytest.approx([0, 0], abs=1e-4)
    assert ((rows["typed_nats"] - rows["exact_nats"]) / np.log(10)).min() > 1


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="bytes"):
        measure_prompts(
            tiny("llama", tokenizer=word_level(), vocab_size=97), [Prompt("a-0", "a", "w1", (" w2", " w3"))], Settings()
        )
    path = tmp_path / "prompts.toml"
    with pytest.raises(ArgumentError, match="There is no file"):
        Settings(prompts=path).read_prompts()
    for content, said in (
        ("", "holds no prompt"),
        ("[a]\nb = 1", "not a file of prompts"),
        ('[a]\ntexts = [["x", ["y"]]]', "two parts"),
    ):
        path = tmp_path / f"{len(content)}.toml"
        path.write_text(content)
        with pytest.raises(ArgumentError, match=said):
            Settings(prompts=path).read_prompts()


def test_nats_and_divergences_of_few_prompts_have_no_interval_below_zero() -> None:
    places = pd.DataFrame(
        [
            {
                "domain": "words", "is_token_border": True, "way": "naive", "prompt_id": f"{number}", "true_byte_nats": nats,
                "kl_nats": nats / 2, "missed_share": 0.1 * number,
            }
            for number, nats in enumerate((0.01, 0.02, 5.0))
        ]
    )  # fmt: skip
    continuations = places.assign(log10_ratio=0.0)
    empty = pd.DataFrame()
    ways = summarise({"places": places, "continuations": continuations, "words": empty, "concepts": empty}, 0)["ways"]
    assert (ways["nats_ci_low"] == 0).all()
    assert (ways["kl_ci_low"] == 0).all()
    assert (ways["nats_ci_high"] > ways["nats"]).all()


@pytest.mark.slow
def test_a_run_ends_with_its_figures(tmp_path: Path) -> None:
    model = tmp_path / "model"
    hf = tiny("llama", tokenizer=byte_level(), vocab_size=len(byte_level()))
    hf.hf.save_pretrained(model)
    byte_level().save_pretrained(model)
    prompts = tmp_path / "prompts.toml"
    prompts.write_text('[words]\ntexts = [["the", [" c", "at", " and"]], ["and the", [" ca", "t"]]]')
    run = ByteBias(model=str(model), prompts=prompts, tolerance=0.01, articles=0, concept_articles=0).run(
        out=tmp_path / "runs"
    )
    ways = run.tables["ways"]
    assert set(ways["way"]) == {"exact", "naive", "heal 1", "heal 3", "beam 2", "beam 5"}
    assert set(ways["domain"]) == {"all", "words"}
    assert set(run.experiment.figures(run.tables)) == {"ratios", "ways"}
    assert len(run.experiment.findings(run.tables)) == 3


def test_words_of_several_pieces_are_held_against_words_of_one_in_their_cell() -> None:
    rows = pd.DataFrame(
        {
            "n_pieces": [1, 1, 2, 2, 1, 3, 2], "frequency": ["0", "0", "0", "0", "9", "9", "7"], "is_capitalised": False,
            "surprisal_nats": [1.0, 3.0, 5.0, 7.0, 2.0, 1.0, 50.0],
        }
    )  # fmt: skip
    every = beyond_one_piece(rows, "surprisal_nats", np.ones((1, 7)))
    assert every == pytest.approx([(2 * (6 - 2) + 1 * (1 - 2)) / 3])  # no word of one piece occurs as often as the last
    once = beyond_one_piece(rows, "surprisal_nats", np.array([[0, 1, 1, 0, 0, 1, 1.0]]))
    assert once == pytest.approx([5 - 3])
    assert np.isnan(beyond_one_piece(rows, "surprisal_nats", np.array([[0, 0, 1, 1, 0, 0, 1.0]]))).all()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_words_have_the_surprisal_of_their_tokens(family: str, tmp_path: Path) -> None:
    """By one plain forward pass; words beside a token that belongs to others too are left out, and counts are of what is not read."""
    for number in range(4):
        (tmp_path / f"{number}.txt").write_text(
            "the cat and then he ran, the end." if number else "Then the cats and the hen ran."
        )
    tokenizer = byte_level()
    model = tiny(family, tokenizer=tokenizer, vocab_size=len(tokenizer))
    settings = Settings(articles=3, corpus=tmp_path, passage_tokens=24)
    words = measure_words(model, settings)
    texts, chosen = read_texts(settings, settings.articles)
    boundary = Vocabulary.of(model, "").boundary
    for (text_id, place), row in words.set_index(["text_id", "word_index"]).iterrows():
        assert row["count_elsewhere"] == sum(
            len(re.findall(rf"(?<=\s){row['word']}(?=[\s.,])", text))
            for at, text in enumerate(texts)
            if at not in chosen
        )
        ids = tokenizer(texts[text_id], add_special_tokens=False)["input_ids"]
        match = list(re.finditer(r"(?<=\s)\w+(?=[\s.,])", texts[text_id]))[place]
        first = len(tokenizer(texts[text_id][: match.start() - 1], add_special_tokens=False)["input_ids"])
        last = first + row["n_pieces"]
        assert tokenizer.decode(ids[first:last]) == f" {row['word']}"
        log_p = model.hf(torch.tensor([[tokenizer.bos_token_id, *ids]])).logits[0].double().log_softmax(-1)
        raw = float(sum(log_p[at, ids[at]] for at in range(first, last)))
        ends = log_p[:, boundary].logsumexp(-1)
        assert row["surprisal_nats"] == pytest.approx(float(ends[first] - raw - ends[last]), abs=1e-4)
    assert (words["n_pieces"] > 1).any()


def test_words_have_their_marks_and_blanks_that_a_token_begins_with(tmp_path: Path) -> None:
    """A vowel sign belongs to its letter. Before signs that are bytes here (a no-break space, a danda) no word is seen to end."""
    for number in range(4):
        (tmp_path / f"{number}.txt").write_text("the नदी और किताब। the\u00a0cat and, then the cat.", encoding="utf-8")
    model = tiny("llama", tokenizer=byte_level(), vocab_size=len(byte_level()))
    words = measure_words(model, Settings(articles=3, corpus=tmp_path, passage_tokens=200))
    first = words[words["text_id"] == words["text_id"].iloc[0]]
    assert first["word"].tolist() == ["नदी", "और", "and", "then", "the", "cat"]
    assert (words["count_elsewhere"] > 0).all()


def test_texts_without_words_are_refused(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"{number}.txt").write_text("我们明天去北京旅游")
    model = tiny("llama", tokenizer=byte_level(), vocab_size=len(byte_level()))
    with pytest.raises(ArgumentError, match="--articles 0"):
        measure_words(model, Settings(articles=1, corpus=tmp_path))
    with pytest.raises(ArgumentError, match="give --articles and --concept-articles less"):
        measure_words(model, Settings(articles=2, corpus=tmp_path))


@pytest.mark.slow
def test_a_model_that_no_lens_reads_has_all_but_names(tmp_path: Path) -> None:
    settings = {**ByteBias.presets["quick"], "articles": 4, "concept_articles": 2}
    run = ByteBias(model="lstm-news", **settings).run(out=tmp_path)
    assert len(run.tables["ratios"])
    assert not len(run.tables["concept_depths"])
    assert [one.text.partition(":")[0] for one in run.findings if one.kind == "warning"] == ["No names"]
