"""A whole run on a tiny model with a trained lens: tables, figures, sentences; every kind of tokenizer and script; what is refused."""

import pandas as pd
import pytest

from interp.errors import ArgumentError
from interp.models.identity import ModelFacts, ModelIdentity
from interp.models.lens.training import Recipe, train_on
from interp.tables import checked, named
from probes.prediction_depth import materials, questions
from probes.prediction_depth.experiment import PredictionDepth
from probes.prediction_depth.materials import CLASSES, kinds_of, read_ids
from probes.prediction_depth.questions import read_questions
from probes.prediction_depth.settings import Settings
from probes.prediction_depth.skipping import measure_skips
from probes.prediction_depth.summaries import summarise_all
from tests.kv_policies.test_materials import NEWS
from tests.script_texts import SCRIPTS
from tests.script_tokenizers import KINDS
from tests.tiny_models import tiny
from tests.tiny_tokenizers import byte_level, of_kind

FACTS = """[capital]
cue = "The old town of {} is"
facts = "hammer = river | river = chapel | basket = library | engine = harbour | mirror = police | turtle = Monday | chapel = town"
"""
LONG = [f"{text} {NEWS[(3 * place + 5) % len(NEWS)]}" for place, text in enumerate(NEWS)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("depth")
    (folder / "facts.toml").write_text(FACTS)
    tokenizer = of_kind("byte-level", (*NEWS, FACTS))
    model = tiny("llama", tokenizer=tokenizer, vocab_size=len(tokenizer), max_position_embeddings=512)
    for kind in ("tuned", "shuffled"):
        recipe = Recipe(out=folder / kind, kind=kind, windows=3, held_out_windows=2, context_tokens=24, steps=3, rank=4)  # type: ignore[arg-type]
        train_on(model, LONG[:4], LONG[4:7], recipe)
    settings = PredictionDepth(
        lens=folder / "tuned", shuffled_lens=folder / "shuffled", facts=folder / "facts.toml", prose_texts=2, decode_texts=2,
        text_tokens=40, draft_tokens=12, budgets=(0.7,), betas=(0.1, 1.0), warm_up_layers=1, full_tokens=8, read_through_every=1,
    )  # fmt: skip
    patch = pytest.MonkeyPatch()
    patch.setattr(materials, "_dealt", lambda: (LONG, LONG))
    patch.setattr(questions, "news_articles", lambda: NEWS)
    schemas, measured = settings.schemas(), {}
    settings.check_model(model.facts)
    for unit in settings.plan(model.facts, measured):
        for name, frame in named(settings.measure(model, unit), "tiny").items():
            measured.setdefault(name, []).append(checked(frame, schemas[name]))
    measured = {name: pd.concat(parts, ignore_index=True) for name, parts in measured.items()}
    patch.undo()
    found = named(settings.summarise(model.facts, measured), "tiny")
    return settings, {**measured, **{name: checked(frame, schemas[name]) for name, frame in found.items()}}


def test_runs_are_compared_over_the_share_of_their_layers(run):
    settings, tables = run
    deeper = {**tables, "quality": tables["quality"].assign(depth=2 * tables["quality"]["depth"])}
    compared, figures = settings.compare({"a": tables, "b": deeper})
    assert set(compared["settled"]["grouping"]) == {"all"}
    assert len(compared["contrasts"]) == 2 * len(tables["contrasts"])
    lines = [trace for trace in figures["quality"].data if trace.mode == "lines+markers"]
    assert {trace.name for trace in lines} == {"a", "b"}
    assert all(min(trace.x) == 0 and max(trace.x) == 1 for trace in lines)
    assert sum(bool(trace.showlegend) for trace in lines) == 2


def test_a_run_fills_every_table(run):
    settings, tables = run
    assert set(tables) == set(settings.schemas())
    assert not [name for name, table in tables.items() if not len(table)]


def test_the_last_depth_is_the_model_through_every_lens(run):
    depths = run[1]["depths"]
    last = depths[depths["depth"] == 3]
    assert (last["agreement"] == 1).all()
    assert last["kl_nats"].abs().max() < 1e-5
    readouts = run[1]["readouts"]
    assert readouts[readouts["depth"] == 3]["agrees"].all()
    upper = readouts[readouts["way"] == "upper layers"]
    assert set(upper["depth"]) == {0, 1, 2, 3}


def test_predictions_settle_within_the_model(run):
    tokens = run[1]["tokens"]
    assert tokens["settle_depth"].between(0, 3).all()
    assert set(tokens["lens"]) == {"logit", "tuned", "shuffled", "less unigram"}
    assert tokens.groupby("lens").size().nunique() == 1
    logit = tokens[tokens["lens"] == "logit"]
    assert (logit["is_right"] <= (logit["surprisal_nats"] < 5)).all()


def test_intervals_hold_nothing_that_cannot_be(run):
    """With two texts Student's t would reach below one token for each pass, below depth 0 and above the last one."""
    tables = run[1]
    short = tables["drafts"].assign(
        accepted=(tables["drafts"]["text_id"] == tables["drafts"]["text_id"].iloc[0]).astype(int)
    )
    summaries = summarise_all({**tables, "drafts": short}, seed=0)
    for table, low, high in ((summaries["accepted"], 1, float("inf")), (summaries["settled"], 0, 3)):
        assert (table["ci_low"].dropna() >= low - 1e-9).all()
        assert (table["ci_high"].dropna() <= high + 1e-9).all()
        assert (table["ci_high"] > table["ci_low"]).any()


def test_what_is_written_live_is_the_greedy_text(run):
    assert run[1]["written"]["is_equal"].all()


def test_figures_and_sentences_come_from_the_tables(run):
    settings, tables = run
    figures = settings.figures(tables)
    assert set(figures) == {"depths", "contrasts", "settled", "ways", "selective", "skips", "drafts", "woven"}
    assert all(figure.layout.meta["caption"] for figure in figures.values())
    texts = [finding.text for finding in settings.findings(tables)]
    assert not [text for text in texts if "nan" in text]
    assert any("settle at depth" in text for text in texts)


def test_without_a_tuned_lens_it_is_said(run):
    settings, tables = run
    without = {name: table[table["lens"] == "logit"] if "lens" in table else table for name, table in tables.items()}
    warnings = [finding for finding in settings.findings(without) if finding.kind == "warning"]
    assert any(finding.text.startswith("There is no tuned lens for these weights") for finding in warnings)


@pytest.mark.parametrize("tokenizer", KINDS, ids=lambda kind: kind.__name__)
def test_every_script_is_cut_into_tokens_that_have_a_class(tokenizer, tmp_path):
    own = tokenizer()
    model = tiny("llama", tokenizer=own, vocab_size=len(own), num_hidden_layers=1)
    for script, texts in SCRIPTS.items():
        (tmp_path / script).mkdir()
        (tmp_path / script / "a.txt").write_text(" ".join([texts.text] * 8), encoding="utf-8")
        settings = Settings(texts=tmp_path / script)
        ids = read_ids(settings, model, 0, 30)
        assert len(ids) == 30
        assert set(kinds_of(settings, own, ids[:-1], ids[1:])) <= set(CLASSES), script


def test_function_words_of_another_language_are_taken(tmp_path):
    (tmp_path / "words.txt").write_text("und cat")
    tokenizer = byte_level()
    ids = tokenizer(" cat and", add_special_tokens=False)["input_ids"]
    before = [ids[-1]] * len(ids)
    settings = Settings(function_words=tmp_path / "words.txt")
    kinds = dict(
        zip(tokenizer.batch_decode([[id] for id in ids]), kinds_of(settings, tokenizer, before, ids), strict=True)
    )
    assert kinds[" cat"] == "function"
    assert kinds[" and"] == "content"


def test_what_cannot_be_is_refused(tmp_path):
    facts = ModelFacts(ModelIdentity("tiny", "tests", "0", "float32"), "llama", None, 64)
    with pytest.raises(ArgumentError, match="do not fit tiny, which reads 64: lower --text-tokens"):
        PredictionDepth().check_model(facts)
    with pytest.raises(ArgumentError, match="leaves fewer than 8 of 30 tokens"):
        Settings(text_tokens=30, full_tokens=25)
    with pytest.raises(ArgumentError, match="There is no file"):
        Settings(lens=tmp_path / "none")
    with pytest.raises(ArgumentError, match="--budgets must be above 0 and below 1"):
        Settings(budgets=(1.0,))
    with pytest.raises(ArgumentError, match="has one layer, so none can be left out"):
        measure_skips(Settings(), tiny("llama", num_hidden_layers=1), 0)
    for number, (content, said) in enumerate(
        [
            ("[a]\ncue = 'x {}'", "is not a file of questions"),
            ("[a]\ncue = 'x'\nfacts = 'a = b | c = d'", "is not a file of questions"),
            ("", "fewer than two"),
        ]
    ):  # fmt: skip
        path = tmp_path / f"{number}.toml"
        path.write_text(content)
        with pytest.raises(ArgumentError, match=said):
            read_questions(Settings(facts=path))
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("the cat")
    model = tiny("llama", tokenizer=byte_level(), vocab_size=len(byte_level()))
    with pytest.raises(ArgumentError, match="0 texts have 24 tokens and number 1 is needed"):
        read_ids(Settings(texts=tmp_path / "texts"), model, 0, 24)
