"""Curves, order and stages by hand; a whole run on a tiny model, with its tables, figures, sentences and comparison."""

import numpy as np
import pandas as pd
import pytest

from interp.errors import ArgumentError
from interp.models.identity import HeadGeometry, ModelFacts, ModelIdentity
from interp.tables import checked, empty, named
from probes.context_recall import heads, natural
from probes.context_recall.experiment import ContextRecall
from probes.context_recall.findings import _floors
from probes.context_recall.plan import CellUnit, HeadsUnit, head_sets, plan_units
from probes.context_recall.prose_summaries import presentations, summarise_order
from probes.context_recall.settings import Settings
from probes.context_recall.summaries import effective_length, falling, longest_at, recall_by_length, stage_of
from probes.context_recall.tasks import prose
from tests.context_recall.texts import CORPUS, NEWS, SMALL, word_source
from tests.tiny_models import tiny
from tests.tiny_tokenizers import of_kind

FACTS = ModelFacts(ModelIdentity("tiny", "tests", "0", "float32"), "llama", HeadGeometry(3, 4, 2, 16), 2048)
ARTICLES = tuple(" ".join(NEWS[n : n + 9]) for n in range(30)) * 6


# ---------------------------------------------------------------------- by hand


def test_the_falling_curve_never_rises_and_is_the_closest():
    shares = np.array([1.0, 0.5, 0.75, 0.25])
    curve = falling(shares)
    assert curve.tolist() == [1.0, 0.625, 0.625, 0.25]
    assert falling(np.array([0.9, 0.4, 0.1])).tolist() == [0.9, 0.4, 0.1]


def test_the_effective_length_is_a_measured_one():
    assert longest_at([64.0, 128.0, 256.0], np.array([1.0, 0.5, 0.2]), 0.5) == 128
    assert longest_at([64.0, 128.0, 256.0], np.array([1.0, 0.9, 0.86]), 0.856) == 256
    assert longest_at([64.0, 128.0], np.array([0.4, 0.1]), 0.5) == 0


def test_lengths_are_summed_up_in_tokens_and_characters():
    rows = [
        {"is_length": True, "cell": f"tokens={length}", "sample_id": f"{length}-{n}", "is_said": n < right, "context_chars": 4 * length}
        for length, right in ((128, 4), (256, 2), (512, 0))
        for n in range(4)
    ]  # fmt: skip
    items = pd.DataFrame(rows)
    answers = pd.DataFrame({"is_length": [True], "condition": ["whole"], "chance": [0.25]})
    found = recall_by_length(Settings(), items, answers)
    assert found["value"].tolist() == found["falling"].tolist() == [1.0, 0.5, 0.0]
    assert (found["falling_ci_low"] <= found["falling"]).all()
    limit = effective_length(Settings(effective_at=0.5), items).set_index("unit")["value"]
    assert limit.to_dict() == {"tokens": 256.0, "characters": 1024.0}


@pytest.mark.parametrize(
    ("found", "bound", "said", "stage"),
    [
        (1.0, True, True, "said"), (1.0, True, False, "bound, not said"), (1.0, False, False, "found, not bound"),
        (0.0, False, False, "not found"), (0.0, True, True, "right, not found"), (0.0, True, False, "right, not found"),
    ],
)  # fmt: skip
def test_every_question_ends_somewhere(found, bound, said, stage):
    assert stage_of(found, bound, said) == stage


def test_four_presentations_cancel_a_bias_for_a_label_and_for_a_place_exactly():
    content, label, place = 0.3, 5.0, -2.0
    keys = {"task": "order", "cell": "text=excerpt", "sample_id": "order-000"}
    rows = [
        {
            **keys, "question": number, "condition": "whole", "kind": f"{name}{int(shown_first)}", "distance_words": 40,
            "margin_nats": content + (label if name == "A" else -label) + (place if shown_first else -place),
        }
        for number, (name, shown_first) in enumerate((name, first) for name in "AB" for first in (True, False))
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    (one,) = presentations(frame, frame.drop(columns="distance_words")).to_dict("records")
    assert one["content"] == pytest.approx(content)
    assert one["label"] == pytest.approx(label)
    assert one["place"] == pytest.approx(place)
    assert one["right"] == 1
    assert one["one"] == 0.5
    table = summarise_order(Settings(), frame, frame.drop(columns="distance_words"))
    assert set(table["quantity"]) == {"content", "right", "one right", "label", "place"}


def test_a_bias_for_a_label_is_not_told_as_order():
    always_a = [("A1", 1.0, 0.51, 1.0), ("B1", 0.0, 0.0, 0.49)]
    rows = [
        {"task": "order", "cell": "", "kind": kind, "is_length": False, "is_floor": True, "chance": 0.5, "right": right,
         "right_ci_low": low, "right_ci_high": high} for kind, right, low, high in always_a
    ]  # fmt: skip
    together = {"text": "excerpt", "distance": "all", "quantity": "right", "value": 0.9, "ci_low": 0.4, "ci_high": 1.0}
    (chance,) = _floors(pd.DataFrame(rows), pd.DataFrame([together]))
    assert "All of them are" in chance.text
    (above,) = _floors(pd.DataFrame(rows), pd.DataFrame([together | {"ci_low": 0.6}]))
    assert "Above it (95% interval): order, excerpt, 90% [60%, 100%], chance 50%." in above.text


# ---------------------------------------------------------------------- plan


def test_heads_come_first_and_cells_carry_their_sets():
    nothing = {name: empty(schema) for name, schema in ContextRecall().schemas().items()}
    (unit,) = plan_units(ContextRecall(), FACTS, nothing)
    assert isinstance(unit, HeadsUnit)
    without = ModelFacts(FACTS.identity, "lstm", None, None)
    units = plan_units(ContextRecall(), without, nothing)
    assert len({unit.id for unit in units}) == len(units) > 20
    assert not any(unit.sets or unit.cuts for unit in units if isinstance(unit, CellUnit))


def test_random_heads_are_others_of_the_same_layers():
    ranking = {role: [(layer, head) for layer in range(3) for head in range(4)] for role in ("retrieval", "induction")}
    found = list(head_sets(Settings(role_share=0.2), FACTS, ranking))
    assert [one.condition for one in found[:3]] == ["without retrieval", *["without random retrieval"] * 2]
    for one in found[1:3]:
        assert len(one.heads) == len(found[0].heads) == 2
        assert not set(one.heads) & set(found[0].heads)
    with pytest.raises(ArgumentError, match="lower --role-share"):
        list(head_sets(Settings(role_share=0.9), FACTS, ranking))


def test_lengths_that_do_not_fit_are_refused():
    with pytest.raises(ArgumentError, match="use --lengths up to 1920"):
        ContextRecall(lengths=(2000,)).check_model(FACTS)


# ---------------------------------------------------------------------- a whole run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    for place in (prose, natural, heads):
        patch.setattr(place, "news_articles", lambda: ARTICLES)
    tasks = [
        f"{name}({', '.join(f'{key}={value}' for key, value in cell.items())})"
        for name, cell in SMALL.items()
        if name in ("mqar", "forgetting", "kv_multiple", "thread", "order")
    ]
    small = ContextRecall(
        tasks=(*tasks, "natural"), samples=3, words=word_source(tmp_path_factory.mktemp("words")), lengths=(160, 200), length_samples=2,
        finding_needles=2, natural_texts=2, natural_tokens=64, random_draws=1, role_share=0.1,
    )  # fmt: skip
    tokenizer = of_kind("byte-level", CORPUS)
    model = tiny("llama", tokenizer=tokenizer, vocab_size=len(tokenizer), max_position_embeddings=1024)
    schemas = small.schemas()
    measured = {name: empty(schema) for name, schema in schemas.items()}
    done = set()
    while waiting := [unit for unit in small.plan(model.facts, measured) if unit.id not in done]:
        for unit in waiting:
            assert small.work_of(model, unit).tokens_read > 0
            for name, frame in named(small.measure(model, unit), "tiny").items():
                measured[name] = pd.concat([measured[name], checked(frame, schemas[name])], ignore_index=True)
            done.add(unit.id)
    patch.undo()
    found = named(small.summarise(model.facts, measured), "tiny")
    return small, {**measured, **{name: checked(frame, schemas[name]) for name, frame in found.items()}}


def test_a_run_fills_every_table(run):
    _, tables = run
    assert not [name for name, table in tables.items() if not len(table)]
    stages = tables["stages"].groupby("task")["value"].sum()
    assert stages.to_numpy() == pytest.approx(1)
    wide = tables["causes"].pivot(index=["task", "condition"], columns="quantity", values="drop")
    assert wide.drop(columns="said").notna().all(axis=None)
    under_policies = wide.index.get_level_values("condition").str.startswith("kept by")
    assert (wide["said"].notna() == under_policies).all()
    causes = tables["causes"]
    assert (causes["drop"] - causes["control_drop"]).to_numpy() == pytest.approx(causes["beyond"].to_numpy(), abs=1e-6)
    assert (tables["items"]["bos_count"] == tables["items"]["bos_count"].iloc[0]).all()


def test_figures_sentences_and_comparison_come_from_the_tables(run):
    small, tables = run
    figures = small.figures(tables)
    assert set(figures) == {"recall", "stages", "causes", "lengths", "threads", "order", "slices", "forgetting", "kept"}
    assert all(figure.layout.meta["caption"] for figure in figures.values())
    assert figures["forgetting"].layout.yaxis2.type == "category"  # else head 18-6 is June 2018
    texts = [finding.text for finding in small.findings(tables)]
    assert texts[0].startswith("Expected at chance")
    assert not [text for text in texts if "nan" in text]
    table, compared = (part["recall"] for part in small.compare({"a": tables, "b": tables}))
    assert set(table["run"]) == {"a", "b"}
    assert len(compared.data) == 2


def test_a_model_without_heads_runs_what_needs_none(run):
    small, _ = run
    tokenizer = of_kind("byte-level", CORPUS)
    model = tiny("mamba", tokenizer=tokenizer, vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2)
    nothing = {name: empty(schema) for name, schema in small.schemas().items()}
    unit = next(unit for unit in small.plan(model.facts, nothing) if unit.id.startswith("mqar"))
    found = named(small.measure(model, unit), "tiny")
    tables = {**nothing, **{name: checked(frame, small.schemas()[name]) for name, frame in found.items()}}
    summed = small.summarise(model.facts, tables)
    assert set(summed["found"]["step"]) == {"bound", "said"}
    assert not len(summed["causes"])
    tables |= named(summed, "tiny")
    assert any("no heads" in finding.text for finding in small.findings(tables))
    assert set(small.figures(tables)) == {"recall"}


@pytest.mark.parametrize("preset", ContextRecall.presets)
def test_presets_fit_the_default_model(preset):
    ContextRecall(**ContextRecall.presets[preset]).check_model(FACTS)
