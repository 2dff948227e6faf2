"""Token classes and texts: counts, spread and thresholds by hand; shuffles that keep their strata."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from interp.models.dictionary.windows import cut_windows
from probes.function_tokens.activations import dealt_anew
from probes.function_tokens.inputs import Corpus
from probes.function_tokens.token_classes import classify, count_tokens, is_function, kind_of

TEXTS = [[0, 0, 0, 1, 1, 2], [0, 1, 3, 3]]


def spelling(*tokens: str) -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are these, one after the other, and "a"."""
    plain = Tokenizer(models.WordLevel({token: id for id, token in enumerate([*tokens, "a"])}, unk_token="a"))
    plain.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=plain)


WORDS = (" the", "ing", ".", " 17", "\n")


def test_counts_coverage_and_spread_by_hand():
    counts, documents, dispersion = count_tokens(TEXTS, 5)
    assert counts.tolist() == [4, 3, 1, 2, 0]
    assert documents.tolist() == [2, 2, 1, 1, 0]
    # Texts hold .6 and .4 of all tokens. Token 0: shares .75, .25; token 1: 2/3, 1/3; token 2: 1, 0; token 3: 0, 1.
    assert dispersion[:4] == pytest.approx([0.15, 2 / 3 - 0.6, 0.4, 0.6])
    assert np.isnan(dispersion[4])


def test_classes_by_cumulative_share():
    table = classify(TEXTS, 0.5, spelling(*WORDS), 5)
    assert table["token_id"].tolist() == [0, 1, 3, 2]
    assert table["cumulative_share"].tolist() == pytest.approx([0.4, 0.7, 0.9, 1.0])
    assert table["token_class"].tolist() == ["function", "function", "content", "content"]
    assert table["token"].tolist() == [" the", "ing", " 17", "."]
    assert table["kind"].tolist() == ["word", "part of word", "number", "punctuation"]
    assert table["document_coverage"].tolist() == [1.0, 1.0, 0.5, 0.5]


@pytest.mark.parametrize(("threshold", "n"), [(0.39, 1), (0.4, 1), (0.41, 2), (0.7, 2), (0.99, 4)])
def test_the_token_that_reaches_the_threshold_is_the_last_one_in(threshold, n):
    assert is_function(np.array([0.4, 0.7, 0.9, 1.0]), threshold).sum() == n


@pytest.mark.parametrize(
    ("token", "kind"),
    [
        (" Paris", "word"),
        ("ed", "part of word"),
        (" 12", "number"),
        ("\n", "whitespace"),
        (" ", "whitespace"),
        (" -", "punctuation"),
        ("$", "punctuation"),
        ("'s", "part of word"),
        ("\ufffd", "other"),
        (" don't", "word"),
        ("", "other"),  # a special token
        (" Привет", "word"),
        ("вет", "part of word"),
        ("世界", "word"),  # no spaces between words: each letter may begin one
        ("น้ำ", "word"),
        ("ี่", "part of word"),  # marks alone, without the letter before them
        ("ा", "part of word"),
        ("\u0301", "part of word"),
        (" हिन्दी", "word"),
        ("१२", "number"),
        ("।", "punctuation"),
        ("❤\ufe0f", "punctuation"),  # signs with their variation selectors, joiners and skin tones
        ("👨\u200d👩", "punctuation"),
        ("👍🏽", "punctuation"),
        ("\u200d", "other"),
    ],
)
def test_kinds(token, kind):
    assert kind_of(token) == kind


@pytest.fixture
def corpus():
    generator = np.random.default_rng(0)
    texts = [generator.integers(3, 30, n).tolist() for n in (50, 33, 61, 40)]
    windows = cut_windows(texts, 16)
    classes = classify(texts, 0.4, spelling(*map(str, range(30))), 30)
    return Corpus(windows, np.array([0, 0, 1, 1]), classes, texts, in_sample=False, left_out=0)


@pytest.mark.parametrize("stratum", ["block", "document", "position"])
def test_shuffles_keep_their_strata_and_nothing_else(corpus, stratum):
    kept = corpus.windows.present(2)
    shuffled = dealt_anew(corpus.windows, kept, stratum, np.random.default_rng(1))
    ids = corpus.windows.ids
    assert (shuffled[~kept] == ids[~kept]).all()
    assert (shuffled != ids).float().mean() > 0.5
    rows, columns = kept.nonzero(as_tuple=True)
    strata = {
        "block": torch.zeros_like(rows),
        "document": torch.from_numpy(corpus.windows.document)[rows],
        "position": columns,
    }
    for value in strata[stratum].unique():
        inside = strata[stratum] == value
        assert sorted(shuffled[kept][inside].tolist()) == sorted(ids[kept][inside].tolist())
    for other in {"document", "position"} - {stratum}:
        values = strata[other]
        moved = [
            sorted(shuffled[kept][values == value].tolist()) != sorted(ids[kept][values == value].tolist())
            for value in values.unique()
        ]
        assert any(moved)


def test_blocks_and_ranks(corpus):
    assert set(corpus.block_windows(0).document.tolist()) == {0, 1}
    assert corpus.block_windows(1).n_tokens == 101
    rank = corpus.rank()
    top = corpus.classes["token_id"].iloc[0]
    assert rank[top] == 1
    assert (np.sort(rank) == np.unique(rank)).all()
    assert rank[0] > len(corpus.classes)
