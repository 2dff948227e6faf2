"""Windows as a dictionary was trained on them: their beginning, length and positions; long texts; one cluster of texts."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from interp.errors import ArgumentError
from interp.models.dictionary.dictionary import Dictionary
from interp.models.dictionary.windows import tokenize
from interp.models.language.residuals import read_residuals
from interp.models.loading.language import load
from probes.function_tokens import inputs
from probes.function_tokens.experiment import FunctionTokens
from tests.function_tokens.test_run import CONTEXT, SKIP, place, settings  # noqa: F401 (the fixture is used by its name)

# sae-lens imports a module that TransformerLens 3.9 has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:The 'utils' module has been deprecated:DeprecationWarning")
GRAPH = dict(parts=("graph",), tokens=300, blocks=2)


@pytest.fixture(scope="module")
def dictionary_that(place, tmp_path_factory):  # noqa: F811
    """Returns the folder of the tiny dictionary with other metadata and no published explained variance to miss."""

    def saved(**metadata):
        folder = tmp_path_factory.mktemp("variant") / "dictionary"
        shutil.copytree(place / "dictionary", folder)
        config = json.loads((folder / "cfg.json").read_text())
        config["metadata"] |= metadata
        (folder / "cfg.json").write_text(json.dumps(config))
        return str(folder)

    return saved


def edges_by_hand(place, dictionary: Dictionary, n_texts: int, beginning: list[int]) -> dict[tuple[int, int], int]:  # noqa: F811
    model = load(str(place / "tiny"), device="cpu")
    texts = [path.read_text(encoding="utf-8") for path in sorted((place / "corpus").glob("*.txt"))]
    order = np.random.default_rng(0).permutation(len(texts))
    counts: dict[tuple[int, int], int] = {}
    import torch

    for index in order[:n_texts]:
        ids = tokenize(model.tokenizer, [texts[index]])[0]
        step = CONTEXT - len(beginning)
        for first in range(0, len(ids), step):
            row = beginning + ids[first : first + step]
            if len(row) < SKIP + 2:
                continue
            active = dictionary.encode(read_residuals(model, torch.tensor([row]), [1])[1][0])
            for position in range(SKIP, len(row)):
                for feature in active[position].nonzero().squeeze(-1).tolist():
                    key = (row[position], feature)
                    counts[key] = counts.get(key, 0) + 1
    return counts


@pytest.mark.parametrize(
    ("said", "bos", "begins"),
    [
        (True, "auto", True),
        (False, "auto", False),
        (None, "auto", False),
        (True, "never", False),
        (False, "always", True),
    ],
)
def test_windows_begin_as_in_training_or_as_asked(place, dictionary_that, said, bos, begins):  # noqa: F811
    folder = dictionary_that(prepend_bos=said)
    model = load(str(place / "tiny"), device="cpu")
    first = inputs.set_up(settings(place, dictionary=(folder,), bos=bos, **GRAPH), model).corpus.windows.ids[:, 0]
    assert len(first) > 2
    assert (first == 1).tolist() == [begins] * len(first)


@pytest.mark.usefixtures("without_pages")
@pytest.mark.parametrize(("said", "begins"), [(True, True), (False, False)])
def test_a_run_counts_in_the_windows_of_training(place, dictionary_that, said, begins):  # noqa: F811
    folder = dictionary_that(prepend_bos=said)
    run = settings(place, dictionary=(folder,), **GRAPH).run(out=place / "runs", device="cpu")
    n_texts = int(run.tables["blocks"]["documents"].sum())
    expected = edges_by_hand(place, Dictionary.load(folder), n_texts, [1] if begins else [])
    edges = run.tables["edges"]
    found = dict(zip(zip(edges["token_id"], edges["feature_id"], strict=True), edges["count"], strict=True))
    assert found == expected
    assert 1 not in set(edges["token_id"])


def test_dictionaries_that_began_otherwise_are_two_runs(place, dictionary_that):  # noqa: F811
    both = (dictionary_that(prepend_bos=True), dictionary_that(prepend_bos=False))
    renamed = shutil.copytree(both[1], place / "other" / "dictionary")
    with pytest.raises(ArgumentError, match=r"measure them in two runs, or give --bos always or never for both"):
        settings(place, dictionary=(both[0], str(renamed)), **GRAPH).run(out=place / "refused", device="cpu")


def test_settings_that_are_newer_leave_the_names_of_runs_alone(place):  # noqa: F811
    from interp.experiments.run_names import run_hash

    facts = load(str(place / "tiny"), device="cpu").facts
    plain = settings(place)
    named = plain.configuration()
    assert {"bos", "expected_explained_variance"} <= set(named)
    assert run_hash(settings(place, bos="auto"), facts) == run_hash(plain, facts)
    assert run_hash(settings(place, bos="never"), facts) != run_hash(plain, facts)


def test_windows_longer_than_in_training_are_refused(place, dictionary_that):  # noqa: F811
    folder = dictionary_that(context_size=16)
    with pytest.raises(
        ArgumentError, match=r"trained on windows of 16 tokens, and --context-tokens is 24: use at most 16"
    ):
        settings(place, dictionary=(folder,), **GRAPH).run(out=place / "refused", device="cpu")


def test_positions_that_training_left_out_are_not_counted(place, dictionary_that):  # noqa: F811
    folder = dictionary_that(seqpos_slice=[5, None])
    with pytest.raises(ArgumentError, match=r"without the first 5 positions of a window: use --skip-first 5 or more"):
        settings(place, dictionary=(folder,), **GRAPH).run(out=place / "refused", device="cpu")


def test_dictionaries_of_one_name_are_refused_before_anything_is_measured(place, tmp_path):  # noqa: F811
    folders = [shutil.copytree(place / "dictionary", tmp_path / name / "tiny" / "layer_1") for name in ("a", "b")]
    names = tuple(str(folder) for folder in folders)
    with pytest.raises(ArgumentError, match=r"both called tiny/layer_1 in the tables: rename a folder"):
        settings(place, dictionary=names, **GRAPH).run(out=place / "refused", device="cpu")
    with pytest.raises(ArgumentError, match="both called tiny/layer_1"):
        settings(place, dictionary=(names[0], names[0]), **GRAPH).run(out=place / "refused", device="cpu")


def test_two_dictionaries_of_one_last_folder_name_are_told_apart(place, tmp_path):  # noqa: F811
    folders = [shutil.copytree(place / "dictionary", tmp_path / name / "layer_1") for name in ("a", "b")]
    names = tuple(str(folder) for folder in folders)
    run = settings(place, dictionary=names, tokens=300, blocks=2).run(out=place / "runs", device="cpu")
    edges = run.tables["edges"].set_index("dictionary").drop(columns="model")
    assert set(edges.index) == {"a/layer_1", "b/layer_1"}
    pd.testing.assert_frame_equal(
        edges.loc["a/layer_1"].reset_index(drop=True), edges.loc["b/layer_1"].reset_index(drop=True)
    )


def test_a_text_read_in_parts_is_counted_as_one(place, monkeypatch):  # noqa: F811
    whole = settings(place, parts=("graph", "losses")).run(out=place / "whole", device="cpu")
    monkeypatch.setattr(inputs, "WINDOWS_AT_ONCE", 1)
    inputs.set_up.cache_clear()
    parts = settings(place, parts=("graph", "losses")).run(out=place / "parts", device="cpu")
    for name in ("edges", "coverage", "block_positions", "pair_losses", "shuffled_coverage"):
        pd.testing.assert_frame_equal(whole.tables[name], parts.tables[name], rtol=1e-5)


def test_a_corpus_of_one_text_has_no_interval_and_no_claim(place, tmp_path):  # noqa: F811
    words = np.random.default_rng(3).zipf(1.4, 400).clip(max=90) + 3
    (tmp_path / "a.txt").write_text(" ".join(f"w{word}" for word in words), encoding="utf-8")
    one = settings(place, corpus=tmp_path, tokens=10**6, blocks=2, parts=("graph", "losses"))
    run = one.run(out=place / "runs", device="cpu")
    assert run.tables["blocks"]["documents"].sum() == 1
    for name in ("coverage", "accumulation", "token_degrees", "pair_losses"):
        bounds = [column for column in run.tables[name] if column.endswith(("ci_low", "ci_high"))]
        assert bounds
        assert run.tables[name][bounds].isna().all(axis=None), name
    said = [finding.text for finding in FunctionTokens.findings(one, run.tables)]
    assert not [text for text in said if "nan" in text or "chance gives" in text]
    assert any("Labels shuffled over positions reach" in text for text in said)
