"""Whole runs on a tiny model: equal to brute force, equal in any number of blocks, resumed, and every refusal."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from interp.errors import ArgumentError, RunError, UserError
from interp.models.dictionary.dictionary import Dictionary
from interp.models.dictionary.fidelity import explained
from interp.models.dictionary.windows import cut_windows, tokenize
from interp.models.language.residuals import read_residuals
from interp.models.loading.language import load
from probes.function_tokens.experiment import FunctionTokens
from probes.function_tokens.graph import build_graph, edge_overlap
from tests.counting import save_model
from tests.test_dictionary import make_sae

# sae-lens imports a module that TransformerLens 3.9 has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:The 'utils' module has been deprecated:DeprecationWarning")
CONTEXT, SKIP, N_TEXTS = 24, 2, 16
RECURRENT = dict(
    vocab_size=97, hidden_size=32, state_size=4, num_hidden_layers=2, bos_token_id=1, eos_token_id=2, pad_token_id=0
)
SMALL = dict(
    context_tokens=CONTEXT,
    skip_first=SKIP,
    tokens=520,
    blocks=4,
    norm_limit=50.0,
    shuffles=2,
    random_sets=2,
    loss_tokens=200,
    reactivation_prompts=8,
    steering_prompts=4,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model, a corpus of random words and a dictionary of the model's second layer."""
    folder = tmp_path_factory.mktemp("function_tokens")
    save_model(folder / "tiny")
    corpus = folder / "corpus"
    corpus.mkdir()
    generator = np.random.default_rng(0)
    for index in range(N_TEXTS):
        words = np.minimum(generator.zipf(1.4, int(generator.integers(40, 80))), 90) + 3
        (corpus / f"{index:02d}.txt").write_text(" ".join(f"w{word}" for word in words), encoding="utf-8")
    model = load(str(folder / "tiny"), device="cpu")
    sae = make_sae("jumprelu", apply_b_dec_to_input=False)
    sae.W_enc.data *= 0.15
    sae.b_enc.data -= 1.0
    sae.cfg.metadata.model_name = "tiny"
    sae.save_model(folder / "dictionary")
    texts = [path.read_text(encoding="utf-8") for path in sorted(corpus.glob("*.txt"))]
    windows = cut_windows(tokenize(model.tokenizer, texts), CONTEXT, shortest=SKIP + 2)
    vectors = read_residuals(model, windows.ids, [1])[1][windows.present(SKIP)]
    measured = explained(Dictionary.from_folder(folder / "dictionary"), vectors)
    card = dict(l0=measured.l0, explained_variance=-100.0)
    (folder / "dictionary" / "card.json").write_text(json.dumps(card), encoding="utf-8")
    assert 2 < measured.l0 < 60
    return folder


def settings(place, **changes) -> FunctionTokens:
    return FunctionTokens(
        **{
            "model": str(place / "tiny"),
            "corpus": place / "corpus",
            "dictionary": (str(place / "dictionary"),),
            **SMALL,
            **changes,
        }
    )


@pytest.fixture(scope="module")
def run(place):
    return settings(place).run(out=place / "runs", device="cpu")


def test_the_run_leaves_every_table_and_figure(run):
    empty = [name for name, table in run.tables.items() if not len(table)]
    assert empty == []
    assert set(run.figures) == {
        "coverage",
        "accumulation",
        "degree_frequency",
        "rarefied_degree",
        "bipartite_dictionary",
        "degree_distribution",
        "feature_entropy",
        "pair_losses",
        "reactivation",
        "steering",
    }
    assert (run.folder / "report.html").is_file()


def test_edges_equal_brute_force(run, place):
    model = load(str(place / "tiny"), device="cpu")
    dictionary = Dictionary.from_folder(place / "dictionary")
    texts = [path.read_text(encoding="utf-8") for path in sorted((place / "corpus").glob("*.txt"))]
    order = np.random.default_rng(0).permutation(len(texts))
    n_documents = int(run.tables["blocks"]["documents"].sum())
    assert n_documents < N_TEXTS
    counts: dict[tuple[int, int], list] = {}
    for document, index in enumerate(order[:n_documents]):
        ids = tokenize(model.tokenizer, [texts[index]])[0]
        windows = cut_windows([ids], CONTEXT, shortest=SKIP + 2)
        active = dictionary.encode(read_residuals(model, windows.ids, [1])[1])
        for row in range(len(windows)):
            for position in range(SKIP, int(windows.lengths[row])):
                for feature in active[row, position].nonzero().squeeze(-1).tolist():
                    entry = counts.setdefault((int(windows.ids[row, position]), feature), [0, set(), 0.0])
                    entry[0] += 1
                    entry[1].add(document)
                    entry[2] += float(active[row, position, feature])
    edges = run.tables["edges"]
    found = {(row.token_id, row.feature_id): row for row in edges.itertuples()}
    assert found.keys() == counts.keys()
    for key, (count, documents, mass) in counts.items():
        assert (found[key][6], found[key].document_count) == (count, len(documents))
        assert found[key].activation_sum == pytest.approx(mass, rel=1e-4)
    degrees = run.tables["token_degrees"].set_index("token_id")["degree"]
    assert (
        degrees.to_dict()
        == pd.Series([token for token, _ in counts]).value_counts().reindex(degrees.index, fill_value=0).to_dict()
    )


@pytest.mark.usefixtures("without_pages")
@pytest.mark.parametrize("blocks", [2, 8])
def test_blocks_change_no_count(run, place, blocks):
    other = settings(place, blocks=blocks, parts=("graph",)).run(out=place / "runs", device="cpu")
    assert len(other.tables["blocks"]) != len(run.tables["blocks"])
    pd.testing.assert_frame_equal(other.tables["edges"], run.tables["edges"])
    pd.testing.assert_frame_equal(other.tables["sensitivity"], run.tables["sensitivity"])


@pytest.mark.usefixtures("without_pages")
@pytest.mark.slow
def test_a_run_that_was_stopped_ends_as_one_that_was_not(run, place, monkeypatch):
    again = settings(place)
    measure, calls = FunctionTokens.measure, []

    def stop(self, model, unit):
        calls.append(unit.id)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return measure(self, model, unit)

    with monkeypatch.context() as patch:
        patch.setattr(FunctionTokens, "measure", stop)
        with pytest.raises(KeyboardInterrupt):
            again.run(out=place / "stopped", device="cpu")
    resumed = again.run(out=place / "stopped", device="cpu")
    assert resumed.folder.name == run.folder.name
    for name, table in run.tables.items():
        pd.testing.assert_frame_equal(resumed.tables[name], table)


def test_shuffled_labels_are_the_null_curve(run):
    tables = run.tables
    coverage = tables["coverage"]
    null = coverage[(coverage["chosen_by"] == "frequency") & (coverage["min_count"] == 1)].set_index("k")["null_alive"]
    shuffled = tables["shuffled_coverage"]
    simulated = shuffled[shuffled["labels"] == "block"].groupby("k")["coverage_alive"].mean()
    assert (simulated - null.reindex(simulated.index)).abs().max() < 0.08


def test_losses_add_up_to_the_models_own(run, place):
    losses = run.tables["pair_loss_documents"]
    losses = losses[losses["threshold"] == 0.4]
    model = load(str(place / "tiny"), device="cpu")
    texts = [path.read_text(encoding="utf-8") for path in sorted((place / "corpus").glob("*.txt"))]
    order = np.random.default_rng(0).permutation(len(texts))
    total, n = 0.0, 0
    for document in losses["document"].unique():
        windows = cut_windows(tokenize(model.tokenizer, [texts[order[document]]]), CONTEXT, shortest=SKIP + 2)
        for row in range(len(windows)):
            ids = windows.ids[row, : windows.lengths[row]].tolist()
            surprisal = model.surprisal([ids])[0, SKIP + 1 :].double()
            total, n = total + float(surprisal.sum()), n + len(surprisal)
    assert losses["n"].sum() == n
    assert losses["loss_sum_nats"].sum() / n == pytest.approx(total / n, abs=1e-6)
    summary = run.tables["pair_losses"]
    for _, part in summary.groupby("threshold"):
        assert (part["mean_loss_nats"] * part["frequency"]).sum() == pytest.approx(total / n, abs=1e-6)


def test_the_graph_as_networkx_and_graphml(run, place):
    import networkx as nx

    name = run.tables["edges"]["dictionary"].iloc[0]
    graph = build_graph(run.tables, name)
    assert graph.number_of_edges() == len(run.tables["edges"])
    assert nx.is_bipartite(graph)
    written = settings(place, graphml=True, parts=("graph",)).run(out=place / "runs", device="cpu")
    (file,) = written.folder.glob("*.graphml")
    read = nx.read_graphml(file)
    assert {frozenset(edge) for edge in read.edges} == {frozenset(edge) for edge in graph.edges}


def test_runs_are_compared(run, place):
    other = settings(place, seed=1).run(out=place / "runs", device="cpu")
    tables, figures = settings(place).compare({"a": run.tables, "b": other.tables})
    assert set(tables["pair_losses"]["run"]) == {"a", "b"}
    assert set(figures) == {"pair_losses"}
    assert 0 < tables["edge_overlap"]["jaccard"].iloc[0] < 1
    assert edge_overlap({"a": run.tables["edges"], "c": run.tables["edges"]})["jaccard"].iloc[0] == 1.0


# ---------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(threshold=0.0), "--threshold must be above 0 and below 1, not 0.0"),
        (dict(threshold=1.5), "--threshold must be above 0 and below 1, not 1.5"),
        (dict(parts=()), "--parts needs at least one"),
        (dict(blocks=1), "--blocks must be at least 2, not 1"),
        (dict(context_tokens=9), "--context-tokens must be at least 9 more"),
        (dict(expected_l0=-3.0), "--expected-l0 must be above 0"),
    ],
)
def test_settings_that_cannot_be_meant(place, changes, message):
    with pytest.raises(ArgumentError, match=message):
        settings(place, **changes)


def test_a_context_longer_than_the_window(place):
    with pytest.raises(ArgumentError, match="--context-tokens 999 does not fit tiny, which reads 256"):
        settings(place, context_tokens=999).run(out=place / "refused", device="cpu")


def test_a_model_without_shipped_dictionaries(place):
    with pytest.raises(ArgumentError, match=r"ships no dictionary for tiny.*--parts losses"):
        settings(place, dictionary=()).run(out=place / "refused", device="cpu")
    alone = settings(place, dictionary=(), parts=("losses",)).run(out=place / "runs", device="cpu")
    assert len(alone.tables["pair_losses"]) == 16
    assert not len(alone.tables["edges"])


def test_a_model_without_attention_has_losses_alone(place, tmp_path):
    save_model(tmp_path / "mamba", "mamba", **RECURRENT)
    with pytest.raises(ArgumentError, match=r"mamba \(mamba\) has no attention heads.*--parts losses"):
        settings(place, model=str(tmp_path / "mamba")).run(out=place / "refused", device="cpu")
    changes = dict(model=str(tmp_path / "mamba"), dictionary=(), parts=("losses",))
    losses = settings(place, **changes).run(out=place / "runs", device="cpu").tables["pair_losses"]
    assert losses[losses["threshold"] == 0.4]["frequency"].sum() == pytest.approx(1.0)


def test_texts_that_cannot_be_read(place, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArgumentError, match="holds no text"):
        settings(place, corpus=tmp_path / "empty").run(out=place / "refused", device="cpu")
    (tmp_path / "latin").mkdir()
    (tmp_path / "latin" / "a.txt").write_bytes("caf\xe9".encode("latin-1"))
    with pytest.raises(ArgumentError, match=r"a.txt is not UTF-8 \(byte 3\)"):
        settings(place, corpus=tmp_path / "latin").run(out=place / "refused", device="cpu")
    (tmp_path / "short").mkdir()
    (tmp_path / "short" / "a.txt").write_text("w3 w4 w5", encoding="utf-8")
    with pytest.raises(ArgumentError, match="No text of the corpus fills one context: the longest has 3 tokens"):
        settings(place, corpus=tmp_path / "short").run(out=place / "refused", device="cpu")


def test_a_tokenizer_wider_than_the_model(place, tmp_path):
    shutil.copytree(place / "tiny", tmp_path / "narrow")
    from tests.tiny_models import tiny_hf

    tiny_hf("llama", vocab_size=50).save_pretrained(tmp_path / "narrow")
    with pytest.raises(
        RunError, match="a tokenizer of another model: it produces ids up to 96 and the embedding has 50 rows"
    ):
        settings(place, model=str(tmp_path / "narrow")).run(out=place / "refused", device="cpu")


def test_an_added_token_that_the_model_cannot_read_is_refused_where_a_text_has_it(place, tmp_path):
    shutil.copytree(place / "tiny", tmp_path / "added")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "added")
    tokenizer.add_tokens(["<added>"])  # id 97, and the embedding has 97 rows
    tokenizer.save_pretrained(tmp_path / "added")
    words = " ".join(["w3", "w4", "w5"] * 40)
    for folder, text in (("without", words), ("with", f"{words} <added> {words}")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text(text, encoding="utf-8")
    own = {"model": str(tmp_path / "added"), "parts": ("losses",), "dictionary": ()}
    settings(place, corpus=tmp_path / "without", **own).run(out=place / "runs", device="cpu")
    with pytest.raises(
        UserError, match=r"The text has the token <added> \(id 97\), and the embedding of added has 97 rows"
    ):
        settings(place, corpus=tmp_path / "with", **own).run(out=place / "refused", device="cpu")


def test_a_dictionary_that_does_not_do_what_is_published(place, tmp_path):
    shutil.copytree(place / "dictionary", tmp_path / "scaled")
    from safetensors.torch import load_file, save_file

    weights = load_file(tmp_path / "scaled" / "sae_weights.safetensors")
    save_file(weights | {"W_enc": 4 * weights["W_enc"]}, tmp_path / "scaled" / "sae_weights.safetensors")
    with pytest.raises(RunError, match=r"should have \d+\.\d active features per position but has"):
        settings(place, dictionary=(str(tmp_path / "scaled"),)).run(out=place / "refused", device="cpu")


def test_texts_a_dictionary_was_trained_on_are_left_out(place, tmp_path):
    from interp.models.dictionary.windows import text_name

    shutil.copytree(place / "dictionary", tmp_path / "trained" / "layer_1")
    texts = [path.read_text(encoding="utf-8") for path in sorted((place / "corpus").glob("*.txt"))]
    names = tmp_path / "trained" / "training_texts.txt"
    names.write_text("\n".join(text_name(text) for text in texts[:3]), encoding="utf-8")
    changes = dict(dictionary=(str(tmp_path / "trained" / "layer_1"),), parts=("graph",), tokens=10**6)
    run = settings(place, **changes).run(out=place / "runs", device="cpu")
    assert run.tables["blocks"]["documents"].sum() == N_TEXTS - 3
    assert (run.tables["blocks"]["texts_left_out"] == 3).all()
    assert run.tables["blocks"]["classes_in_sample"].all()
    names.write_text("\n".join(text_name(text) for text in texts), encoding="utf-8")
    with pytest.raises(ArgumentError, match="All texts of the corpus were used to train the dictionary"):
        settings(place, **changes, seed=5).run(out=place / "refused", device="cpu")
