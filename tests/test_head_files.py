"""Files of other tools that rank heads: recognised by their content, fitted to the model, refused in a sentence."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interp.errors import ArgumentError
from interp.heads.files import read_heads
from interp.heads.given import given_heads, heads_of, sentences_on, sizes_for
from interp.heads.kinds import KINDS
from interp.models.identity import HeadGeometry, ModelFacts, ModelIdentity

TINY = ModelFacts(
    ModelIdentity("tiny", "tiny", "0", "float32"),
    "llama",
    HeadGeometry(n_layers=3, n_heads=4, n_kv_heads=2, head_dim=8),
    None,
)
ORDER = [(2, 1), (0, 3), (1, 0)]
"""The three best heads of every file below."""
SCORES = {(layer, head): 0.0 for layer in range(3) for head in range(4)} | {(2, 1): 0.9, (0, 3): 0.5, (1, 0): 0.2}


def by_head(change: Any = lambda scores: scores) -> dict[str, list[float]]:
    """{"layer-head": [score of two samples]}, heads in layer-major order."""
    return {f"{layer}-{head}": change([score, score / 2]) for (layer, head), score in SCORES.items()}


def signed(scores: list[float]) -> list[float]:
    return [3 * score - 1.35 for score in scores]


def weights(scores: list[float]) -> list[float]:
    return [score * 0.9123456789 + 1.2345e-4 for score in scores]


def envelope(method: str, scores: Any, **meta: Any) -> dict[str, Any]:
    return {"meta": {"method": method, "model": "someone/model", **meta}, "scores": scores}


NAMES = [f"{layer}-{head}" for layer, head in ORDER]
QRHEAD = sorted(([name, values[0]] for name, values in by_head().items()), key=lambda pair: -pair[1])
FILES = {
    "copies": (by_head(), "count"),
    "masses": (by_head(weights), "attention_mass"),
    "contributions, bare": (by_head(signed), "signed"),
    "LOCOS": (envelope("logit_contribution", by_head(signed), trial_ids=[]), "locos"),
    "LOCOS dla": (envelope("dla", by_head(signed)), "dla"),
    "LOCOS attention_spatial": (envelope("attention_spatial", by_head(weights)), "attention_spatial"),
    "LOCOS headkv": (envelope("headkv", by_head(weights)), "headkv"),
    "LOCOS contrastive, pooled": (envelope("contrastive_pooled", by_head(weights)), "contrastive"),
    "LOCOS cri": (envelope("cri", by_head(signed)), "cri"),
    "an envelope of copies": (envelope("count", by_head()), "count"),
    "an envelope of another method": (envelope("our own", by_head(signed)), "signed"),
    "means": ({name: [values[0] * 0.9123456789] for name, values in by_head().items()}, "unnamed"),
    "QRHead": (QRHEAD, "qrhead"),
    "QRHead in an envelope": (envelope("qrhead", QRHEAD), "qrhead"),
    "names": (NAMES, "order"),
    "a set": (envelope("", {name: [1.0] for name in sorted(NAMES)}, set_kind="consensus"), "members"),
    "text": ("2-1, 0-3,1-0\n", "order"),
    "QRHead configuration": ('# Default\n\nattn_head_set: "2-1,0-3,1-0" # top3\nmodel_base_class: "x"\n', "order"),
}


def written(folder: Path, content: Any, name: str = "heads.file") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("form", FILES)
def test_every_format_is_recognised_by_its_content_and_gives_its_best_heads(tmp_path, form):
    content, kind = FILES[form]
    heads = read_heads(written(tmp_path, content))
    assert heads.kind == kind
    given = given_heads(tmp_path / "heads.file", TINY)
    best = heads_of(given)[:3]
    assert (sorted(best) if kind == "members" else best) == (sorted(ORDER) if kind == "members" else ORDER)
    assert given["rank"].tolist() == list(range(1, len(given) + 1))
    assert (given["kv_head"] == given["head"] // 2).all()
    assert heads.model == ("someone/model" if isinstance(content, dict) and "meta" in content else None)
    # The mean over samples, whatever the kind; only copies are ever or never active.
    if form in ("contributions, bare", "LOCOS"):
        assert heads.scores.set_index(["layer", "head"])["score"][2, 1] == pytest.approx(3 * 0.675 - 1.35)
    assert bool(heads.scores["activation_frequency"].notna().all()) == KINDS[kind].copies
    (first, is_warning), *_ = sentences_on(given, (1,))
    assert KINDS[kind].text in first
    assert not is_warning
    assert ("To say what they are, write" in first) == (kind in ("signed", "unnamed"))


GATES = np.array([[0.25, -9.5e-5], [1.0000001, 0.5], [0.75, 0.125]])


def pattern(folder: Path, gates: np.ndarray = GATES) -> Path:
    """A DuoAttention folder as numpy.savetxt writes it: a line per layer, a column per key-value head."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savetxt(folder / "full_attention_heads.tsv", gates, delimiter="\t")
    (folder / "config.json").write_text('{"model_name": "models/x", "sink_size": 128, "recent_size": 256}')
    return folder


@pytest.mark.parametrize("place", ["", "full_attention_heads.tsv"])
def test_a_gate_of_a_key_value_head_stands_for_the_query_heads_that_share_it(tmp_path, place):
    given = given_heads(pattern(tmp_path / "duo") / place, TINY)
    # Gates 1, .75, .5, .25, .125, 0 belong to key-value heads 1-0, 2-0, 1-1, 0-0, 2-1, 0-1, each of two query heads.
    assert heads_of(given) == [
        (1, 0), (1, 1), (2, 0), (2, 1), (1, 2), (1, 3), (0, 0), (0, 1), (2, 2), (2, 3), (0, 2), (0, 3)
    ]  # fmt: skip
    assert given["score"].tolist()[::2] == [1, 0.75, 0.5, 0.25, 0.125, 0]
    assert given["per_kv_head"].all()
    assert read_heads(tmp_path / "duo").model == "models/x"
    texts = sentences_on(given, (2, 3))
    assert "each key-value head's score standing for all query heads that share it" in texts[0][0]
    # Two heads are a whole key-value head; three cut one in half.
    assert texts[1:] == [
        ("The file of --heads-from names the model models/x, and this run is of tiny.", True),
        (
            "The top 3 of --heads-from ends among 2 heads with the same score, 0.75: those of the first layers were taken.",
            True,
        ),
    ]


def test_scores_of_all_key_value_heads_are_expanded_too(tmp_path):
    kv = {f"{layer}-{head}": [GATES[layer, head] * 0.1234567] * 2 for layer in range(3) for head in range(2)}
    bare = given_heads(written(tmp_path, {name: [abs(v[0]), 0.123] for name, v in kv.items()}), TINY)
    assert heads_of(bare)[:2] == [(1, 0), (1, 1)]
    grouped = envelope("logit_contrib", kv, num_kv_heads=2, aggregation="mean_per_trial_over_group_members")
    assert heads_of(given_heads(written(tmp_path, grouped), TINY))[:2] == [(1, 0), (1, 1)]


def test_lists_are_masked_at_the_sizes_they_have_heads_for(tmp_path):
    names = given_heads(written(tmp_path, NAMES), TINY)
    assert [sizes_for(names, ks) for ks in ((1, 2, 5), (5, 10), (3,))] == [(1, 2), (3,), (3,)]
    members = given_heads(written(tmp_path, FILES["a set"][0]), TINY)
    assert sizes_for(members, (1, 2)) == (3,)  # no order, so no part of it


def grid(n_layers: int, n_heads: int, first: int = 0) -> dict[str, list[float]]:
    heads = [(layer, head) for layer in range(first, first + n_layers) for head in range(first, first + n_heads)]
    return {f"{layer}-{head}": [index / 4, 0.5] for index, (layer, head) in enumerate(heads)}


HAS = "tiny has 3 layers of 4 heads"
WRONG = {
    "a larger model": (grid(4, 4), f"scores 4 layers of 4 heads and {HAS}: name one of the same model."),
    "a smaller model": (grid(2, 4), f"scores 2 layers of 4 heads and {HAS}"),
    "counted from one": (grid(3, 4, 1), f"names the head 1-4, and {HAS}, counted from 0; layers and heads are counted from 0"),
    "a list beyond": (["2-1", "3-0"], f"names the head 3-0, and {HAS}"),
    "no number": ({"0-0": [float("nan")]}, '"0-0" must be "layer-head" with a list of numbers.'),
    "infinity": ({"0-0": [float("inf")]}, '"0-0" must be "layer-head" with a list of numbers.'),
    "texts": ({"0-0": ["0.5"]}, '"0-0" must be "layer-head" with a list of numbers.'),
    "nested": ({"0-0": [[0.5]]}, '"0-0" must be "layer-head" with a list of numbers.'),
    "a key twice": ('{"0-0": [1], "0-0": [0]}', '"0-0" comes twice'),
    "a head twice": (["0-1", "0-01"], "has the head 0-1 twice."),
    "a scored head twice": ([["0-1", 1.0], ["0-1", 0.5]], "has the head 0-1 twice."),
    "a list of numbers": ([[0, 1]], '[0, 1] must be ["layer-head", score].'),
    "a list without scores": ([["0-1", None]], 'must be ["layer-head", score].'),
    "empty envelope": (envelope("logit_contribution", {}), "holds no head scores"),
    "no samples": (envelope("logit_contribution", {"0-0": [], "0-1": []}), "has heads but no samples"),
    "copies below 0": (envelope("behavioral", by_head(signed)), "whose scores are copies, and has scores below 0."),
    "nothing": ("", "names no heads in a format that is known here"),
    "prose": ("Once upon a time", "names no heads in a format that is known here"),
    "all heads": ('attn_head_set: "full_heads"\n', 'attn_head_set is "full_heads" and names no heads'),
    "ragged gates": ("1.0\t0.5\n0.5\n", "its lines have 1 to 2 columns"),
    "a gate that is none": ("1.0\t0.5\n0.5\tnan\n0.1\t0.1\n", "line 2, column 2 holds nan: a gate α lies between 0 and 1."),
    "no gates at all": ("16\t19\n11\t15\n1\t2\n", "line 1, column 1 holds 16: a gate α lies between 0 and 1."),
    "gates of query heads": ("1\t0\t1\t0\n" * 3, "scores 3 layers of 4 key-value heads and tiny has 3 layers of 2 key-value heads"),
    "gates of one layer": ("1\t0\n", "has 2 gates and tiny has 3 layers of 2 key-value heads"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_with_a_file_is_said_in_one_sentence(tmp_path, what):
    content, sentence = WRONG[what]
    path = written(tmp_path, content)
    with pytest.raises(ArgumentError) as told:
        given_heads(path, TINY)
    assert sentence in str(told.value)
    assert str(told.value).startswith(str(path))
    assert "\n" not in str(told.value)


def test_a_place_that_is_no_ranking_is_told(tmp_path):
    with pytest.raises(ArgumentError, match=r"holds no run.json and no full_attention_heads.tsv: name the folder"):
        given_heads(tmp_path, TINY)
    with pytest.raises(ArgumentError, match="There is no run 0123abcd here"):
        given_heads(Path("0123abcd"), TINY)
    with pytest.raises(ArgumentError, match=r"There is no file Qwen3.json: name a file that ranks heads"):
        given_heads(Path("Qwen3.json"), TINY)
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ArgumentError, match="cannot be read"):
        given_heads(tmp_path / "bytes.json", TINY)


MQA = ModelFacts(ModelIdentity("m", "m", "0", "float32"), "falcon", HeadGeometry(4, 8, 1, 16), 512, None)
GQA = ModelFacts(ModelIdentity("m", "m", "0", "float32"), "llama", HeadGeometry(4, 8, 2, 16), 512, None)


def test_all_heads_of_a_model_with_one_key_value_head_stand_for_their_query_heads(tmp_path):
    given = given_heads(written(tmp_path, {f"{layer}-0": [0.1 * layer, 0.37] for layer in range(4)}), MQA)
    assert len(given) == 32
    assert given["per_kv_head"].all()


def test_a_list_with_a_method_is_read_by_it(tmp_path):
    meta = {"method": "LOCOS", "num_kv_heads": 2, "aggregation": "mean"}
    given = given_heads(written(tmp_path, {"meta": meta, "scores": [["0-1", 0.5], ["2-0", -0.2]]}), GQA)
    assert set(given["kind"]) == {"locos"}
    assert heads_of(given)[:4] == [(0, 4), (0, 5), (0, 6), (0, 7)]


@pytest.mark.parametrize(("name", "n"), [("num_layers", 32), ("num_heads", 32), ("num_kv_heads", 8)])
def test_a_file_that_counts_other_heads_is_refused(name, n, tmp_path):
    with pytest.raises(ArgumentError, match=f"{name}: {n}"):
        given_heads(written(tmp_path, {"meta": {"method": "locos", name: n}, "scores": {"0-1": [0.5]}}), GQA)


@pytest.mark.parametrize(("named", "warned"), [("Qwen/Qwen2.5-7B", True), ("someone/M", False), (None, False)])
def test_a_file_of_another_model_is_warned_about(named, warned, tmp_path):
    meta = {"method": "locos", **({"model": named} if named else {})}
    given = given_heads(written(tmp_path, {"meta": meta, "scores": {"0-1": [0.5], "1-1": [0.25]}}), GQA)
    assert any("Qwen" in text and warning for text, warning in sentences_on(given, (1,))) is warned


def test_masses_rounded_to_two_decimals_are_no_copies(tmp_path):
    draws = np.random.default_rng(0).random((32, 20)).round(2) * 0.99
    scores = {f"{layer}-{head}": draws[8 * layer + head].round(2).tolist() for layer in range(4) for head in range(8)}
    assert set(given_heads(written(tmp_path, scores), GQA)["kind"]) == {"unnamed"}
    copies = {name: [round(value * 7) / 7 for value in values] for name, values in scores.items()}
    assert set(given_heads(written(tmp_path, copies), GQA)["kind"]) == {"count"}
