"""Pairs of our own and of users' files, and a whole run on tiny models."""

from pathlib import Path
from typing import get_args

import pytest

from interp.errors import ArgumentError
from probes.sequence_representation.experiment import SequenceRepresentation
from probes.sequence_representation.pairs import GRADES, own_pairs, texts_of, word_overlap
from probes.sequence_representation.retrieval import queries_of
from probes.sequence_representation.settings import Arm, Settings
from tests.script_tokenizers import byte_bpe
from tests.sequence_representation.test_readers import model_of, tiny_encoder


def test_own_pairs_are_what_their_kinds_say() -> None:
    pairs = own_pairs()
    assert len(pairs) == 7 * len({pair.cluster for pair in pairs})
    assert len(texts_of(pairs)) == len({pair.cluster for pair in pairs}) * len(
        GRADES
    )  # an unrelated partner is a sentence
    for pair in pairs:
        assert pair.first != pair.second
        assert pair.grade == GRADES[pair.kind]
        assert pair.second.isascii() == (pair.kind != "translation")
        if pair.kind == "roles":
            words = [sorted(text.casefold().rstrip(".").split()) for text in (pair.first, pair.second)]
            assert words[0] == words[1], pair.second
        if pair.kind in ("unrelated", "translation"):
            assert word_overlap(pair.first, pair.second) < 0.25


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", 'score\tsentence1\tsentence2\n5\tA "cat" sat.\tA cat was sitting.\n0.5\tA dog.\tThe sea, today.\n'),
        ("a.csv", 'sentence1,sentence2,score\n"A ""cat"" sat.",A cat was sitting.,5\nA dog.,"The sea, today.",0.5\n'),
        ("a.jsonl", '{"sentence1": "A \\"cat\\" sat.", "sentence2": "A cat was sitting.", "score": 5}\n'
                    '{"sentence1": "A dog.", "sentence2": "The sea, today.", "score": 0.5}\n'),
    ],
)  # fmt: skip
def test_users_files_are_read(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    pairs = Settings(pairs=tmp_path / name).read_pairs()
    assert [(pair.first, pair.second, pair.grade) for pair in pairs] == [
        ('A "cat" sat.', "A cat was sitting.", 5.0),
        ("A dog.", "The sea, today.", 0.5),
    ]
    assert [pair.first for pair in queries_of(pairs)] == ['A "cat" sat.']


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("sentence1,sentence2,grade\na,b,1\n", "no column score.*--grade-column"),
        ("sentence1,sentence2,score\na,,1\n", "empty text in row 1"),
        ("sentence1,sentence2,score\na,b,high\n", "write a number"),
        ("sentence1,sentence2,score\na,b,nan\n", "finite number"),
        ("sentence1,sentence2,score\na,b,1\nc,d,1\n", "different grades"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(ArgumentError, match=said):
        Settings(pairs=tmp_path / "a.csv").read_pairs()


def test_settings_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="There is no file"):
        Settings(pairs=tmp_path / "none.tsv").read_pairs()
    with pytest.raises(ArgumentError, match=r"must be above --start"):
        Settings(start=7)
    with pytest.raises(ArgumentError, match="needs prompt"):
        Settings(arms=("plain",))


@pytest.mark.slow
def test_a_run_ends_with_its_tables_figures_and_findings(tmp_path: Path) -> None:
    folders = tmp_path / "model", tmp_path / "encoder"
    model_of("llama").hf.save_pretrained(folders[0])
    byte_bpe().save_pretrained(folders[0])
    encoder = tiny_encoder()
    encoder.hf.save_pretrained(folders[1])
    encoder.tokenizer.save_pretrained(folders[1])
    run = SequenceRepresentation(
        model=str(folders[0]), encoder=str(folders[1]), sentences=3, arms=get_args(Arm), exits=(2,), prose_sentences=0, distractors=0,
        top_k=(5,),
    ).run(out=tmp_path / "runs")  # fmt: skip
    assert set(run.figures) == {"correlations", "gains", "kinds", "moved", "recalls"}
    correlations = run.tables["correlations"]
    assert set(correlations["reader"]) == {"model", "encoder", "none"}
    assert correlations["value"].between(-1, 1).all()
    assert (correlations["ci_low"] <= correlations["ci_high"]).all()
    gains = run.tables["gains"]
    assert set(gains["against"]) == {"prompt", "slot", "other", "mean", "random"}
    assert any("against the prompt alone" in finding.text for finding in run.findings)
    assert (
        run.tables["recalls"].query("k == 100")["value"] >= run.tables["recalls"].query("k == 1")["value"].min()
    ).all()
    assert run.tables["ranks"]["value"].between(0, 1).all()
    assert len(run.tables["words"]) == 0
    compared, figures = run.experiment.compare({"a": run.tables, "b": run.tables})
    last = correlations.query("measure == 'cosine' and layer == n_layers - 1")
    assert len(compared["correlations"]) == 2 * len(last)
    assert {trace.name for trace in figures["correlations"].data} == {"a", "b"}


def test_too_many_layers_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    model_of("llama").hf.save_pretrained(tmp_path)
    byte_bpe().save_pretrained(tmp_path)
    with pytest.raises(ArgumentError, match="has 3 layers: give --exits"):
        SequenceRepresentation(model=str(tmp_path), encoder="none").run(out=tmp_path / "runs")
