"""What a name's first token holds ahead: spans, counts, maps and ranks by hand, and the whole on models of many families."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from interp.errors import ArgumentError
from interp.tables import empty
from probes.byte_bias import concepts
from probes.byte_bias.concepts import FREE_STEP, OFFSETS, above_share, counts_of, mapped, measure_concepts, spans_of
from probes.byte_bias.settings import Settings
from probes.byte_bias.summaries import summarise
from probes.byte_bias.tables import Continuations, Places
from probes.byte_bias.words import read_texts
from tests.tiny_models import tiny
from tests.tiny_tokenizers import byte_level

PROMPTS = {"places": empty(Places), "continuations": empty(Continuations)}
TEXT = "Today the old Lord Marb met a few grey cats, Ann. Then Rome fell, and Max Bell ran"


def cut(text: str, *pieces: str) -> list[tuple[int, int]]:
    """Offsets of tokens that are a word and the blank before it each, but for the words that are given in pieces."""
    whole = {piece.replace("|", ""): piece.split("|") for piece in pieces}
    found, at = [], 0
    for part in re.findall(r" ?[^\W\d_]+|.", text):
        for piece in whole.get(part, [part]):
            found.append((at, at + len(piece)))
            at += len(piece)
    return found


def named(text: str, *pieces: str) -> list[tuple[str, str, int, int]]:
    return [(one.kind, " ".join(one.words), one.first, one.n_tokens) for one in spans_of(text, cut(text, *pieces))]


def test_names_words_and_free_runs_by_hand() -> None:
    assert named(TEXT, " Ma|rb", " gr|ey") == [
        ("free", "the old", 1, 2),
        ("name", "Lord Marb", 3, 3),  # behind a word of lower case
        ("free", "met a few", 6, 3),
        ("word", "grey", 9, 2),
        ("name", "Max Bell", 20, 2),  # neither Ann nor Rome has two tokens, and Then begins a sentence
    ]
    assert ("free", "a few grey cats", 7, 4) in named(TEXT.replace("met ", "met, "))
    assert named("a b c d e f g")[0] == ("free", "a b c d", 0, 4)  # four words at most
    assert named("in New  York") == []  # two blanks part a name


def test_a_word_that_shares_a_token_is_no_span() -> None:
    assert list(spans_of("we saw it", [(0, 2), (2, 6), (6, 9)])) != []
    assert [span.words for span in spans_of("we saw it", [(0, 4), (4, 6), (6, 9)])] == []


def test_counts_are_of_runs_with_single_blanks() -> None:
    texts = ["the old cat and the old cat", "the old. cat the  old", "The old"]
    assert counts_of({"the old", "the old cat", "cat"}, iter(texts)) == {"the old": 3, "the old cat": 2, "cat": 3}


def test_ranks_among_spans_of_one_kind() -> None:
    logits = torch.tensor([[3.0, 1.0, 3.0, 9.0], [5.0, 1.0, 0.0, 9.0], [1.0, 2.0, 3.0, 9.0], [0.0, 0.0, 0.0, 0.0]])
    found = above_share(logits, np.array(["name", "name", "name", "free"]))
    assert found[:3].tolist() == [0.75, 0.5, 1.0]
    assert np.isnan(found[3])


def test_a_map_finds_what_is_linear() -> None:
    generator = torch.Generator().manual_seed(0)
    x, weights = torch.randn(400, 6, generator=generator), torch.randn(6, 6, generator=generator)
    found = mapped(x, x @ weights + 2, x[:5])
    assert (found - (x[:5] @ weights + 2)).abs().max() < 0.05 * weights.abs().max()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(6):
        (folder / f"{number}.txt").write_text(f"Then the cat and the hen saw Thean Cathe at the end, {number}.\n" * 3)
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "gpt_neox", "bamba", "opt"])
def test_the_last_state_says_what_the_model_says_of_the_next_token(
    family: str, dtype: torch.dtype, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the map is the identity, one token ahead at the last depth: places, head and texts are then those of a plain pass."""
    model = tiny(family, tokenizer=byte_level(), vocab_size=len(byte_level()))
    model.hf.to(dtype)
    settings = Settings(corpus=corpus, concept_articles=4, concept_depths=2, passage_tokens=40)
    whole = measure_concepts(model, settings)
    assert {"name", "free"} <= set(whole["kind"])
    assert np.isfinite(whole["nats"]).all()
    assert whole["above_share"].dropna().between(0, 1).all()
    made = summarise({"concepts": whole, "words": whole[:0], **PROMPTS}, 0)
    assert {"name"} <= set(made["concept_gaps"]["kind"]) <= {"name", "word"}
    monkeypatch.setattr(concepts, "mapped", lambda x, y, states: states)
    table = measure_concepts(model, settings)
    rows = table[(table["depth"] > 0) & (table["offset"] == 1) & (table["map"] == "linear")]
    texts, chosen = read_texts(settings, 4)
    wanted = []
    for place in chosen[1::2]:
        read = byte_level()(texts[place], add_special_tokens=False, return_offsets_mapping=True)
        ids = read["input_ids"][:40]
        nats = model.surprisal([[byte_level().bos_token_id, *ids]])[0]
        spans = [span for span in spans_of(texts[place], read["offset_mapping"][:40]) if span.first]
        free = [span for span in spans if span.kind == "free"][::FREE_STEP]
        wanted += [float(nats[1 + span.first + 1]) for span in spans if span.kind != "free" or span in free]
    assert rows["nats"].tolist() == pytest.approx(wanted, abs=1e-4 if dtype == torch.float32 else 0.1)


def test_texts_without_names_are_refused(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text("我们明天去北京旅游")
    model = tiny("llama", tokenizer=byte_level(), vocab_size=len(byte_level()))
    with pytest.raises(ArgumentError, match="--concept-articles 0"):
        measure_concepts(model, Settings(concept_articles=2, corpus=tmp_path))


def test_maps_are_fitted_to_states_so_many_tokens_apart(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the last depth, what a place is mapped to is the state that predicts the token asked for: its own, or the next one's."""
    fitted: list[tuple[torch.Tensor, torch.Tensor]] = []

    def keep(x: torch.Tensor, y: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        fitted.append((x, y))
        return states

    monkeypatch.setattr(concepts, "mapped", keep)
    model = tiny("llama", tokenizer=byte_level(), vocab_size=len(byte_level()))
    measure_concepts(model, Settings(corpus=corpus, concept_articles=2, concept_depths=2, passage_tokens=40))
    last = fitted[-2 * len(OFFSETS) :: 2]  # depth by depth, offset by offset, linear before shuffled
    for offset, (x, y) in zip(OFFSETS, last, strict=True):
        assert torch.equal(x[offset - 1 :], y[: len(y) - offset + 1])
        assert len(x) == 40 - offset
