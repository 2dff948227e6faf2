"""Training on tiny models: the loss and the update against plain torch, weights put back, what is recognised after study."""

import numpy as np
import pytest
import torch

from interp.errors import ArgumentError, UserError
from probes.training_memory import measure
from probes.training_memory.measure import groups_of, measure_unit, mixed
from probes.training_memory.plan import AfterUnit, StudyUnit
from probes.training_memory.scores import completions, exact, mean_nats, shared
from probes.training_memory.settings import FOILS, Settings
from probes.training_memory.stimuli import items_of
from probes.training_memory.trainer import DivergedError, Trainer, restored, row_loss, weights_of
from tests.script_texts import SCRIPTS
from tests.script_tokenizers import KINDS, byte_bpe
from tests.sequence_representation.test_readers import model_of
from tests.tiny_models import random_ids, tiny

FAMILIES = ["llama", "gemma3_text", "gpt2", "mixtral", "bamba", "mamba"]
ROWS = [[5, 9, 12, 40, 7, 3], [8, 30, 11, 6], [21, 22, 23]]
SMALL = {"sentences": 4, "batch": 2, "exposures": (0, 1, 3), "years_step": 0}


def bits(model) -> dict[str, bytes]:  # type: ignore[no-untyped-def]
    return {name: tensor.detach().numpy().tobytes() for name, tensor in weights_of(model).items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_of_ragged_rows_is_that_of_each_alone_and_an_update_lowers_it(family: str) -> None:
    model = model_of(family)
    nats = [model.hf(torch.tensor([row])).logits[0, :-1].log_softmax(-1) for row in ROWS]
    each = [-log_p[range(len(row) - 1), row[1:]] for log_p, row in zip(nats, ROWS, strict=True)]
    assert float(row_loss(model, ROWS)) == pytest.approx(float(torch.cat(each).mean()), abs=1e-4)
    before = bits(model)
    with restored(model):
        trainer = Trainer(model, 1e-2)
        losses = [trainer.update(ROWS).loss_nats for _ in range(6)]
        assert losses[-1] < losses[0] - 0.2
        assert bits(model) != before
    assert bits(model) == before
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in model.hf.parameters())


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_weights_are_put_back_however_training_ends(stop: type[BaseException], monkeypatch) -> None:  # type: ignore[no-untyped-def]
    model = model_of("llama")
    before, calls = bits(model), []
    update = Trainer.update

    def interrupted(self, rows):  # type: ignore[no-untyped-def]
        calls.append(rows)
        if len(calls) == 3:
            raise stop
        return update(self, rows)

    monkeypatch.setattr(measure.Trainer, "update", interrupted)
    with pytest.raises(stop):
        measure_unit(model, StudyUnit("study", "natural", 1e-2, 0), Settings(**SMALL))
    assert len(calls) == 3
    assert bits(model) == before


def test_an_update_is_that_of_plain_torch() -> None:
    model, plain = model_of("gpt2"), model_of("gpt2")
    with restored(model):
        trainer = Trainer(model, 1e-3)
        trainer.update(ROWS[:1])
        trainer.update(ROWS[:1])
        plain.hf.requires_grad_(True)
        optimizer = torch.optim.AdamW(plain.hf.parameters(), lr=1e-3, weight_decay=0.0)
        for _ in range(2):
            optimizer.zero_grad()
            ids = torch.tensor(ROWS[:1])
            plain.hf(ids, labels=ids).loss.backward()
            torch.nn.utils.clip_grad_norm_(plain.hf.parameters(), 1.0)
            optimizer.step()
        for name, tensor in plain.hf.named_parameters():
            assert torch.allclose(weights_of(model)[name], tensor, atol=1e-6), name


def test_training_that_diverges_is_stopped_and_said() -> None:
    model = model_of("llama")
    before = bits(model)
    tables = measure_unit(model, StudyUnit("study", "natural", 50.0, 0), Settings(**SMALL))
    last = tables["updates"].iloc[-1]
    assert "nats per token" in last["stopped"]
    assert (tables["updates"]["stopped"].iloc[:-1] == "").all()
    assert 0 in set(tables["recognition"]["exposures"])
    assert bits(model) == before
    trainer = Trainer(model, 1e-3)
    model.hf.get_input_embeddings().weight.data[5] = float("nan")
    with pytest.raises(DivergedError, match="to nan nats"):
        trainer.update([[5, 6, 7]])


def test_studied_sentences_are_recognised_and_recalled_and_others_are_not() -> None:
    model = model_of("llama", hidden_size=64)
    settings = Settings(sentences=6, batch=2, exposures=(0, 30), years_step=0)
    tables = measure_unit(model, StudyUnit("study", "natural", 3e-3, 0), settings)
    recognised = tables["recognition"].groupby(["exposures", "foil"])["is_recognised"].mean()
    recall = tables["recall"].groupby("exposures")[["exact", "rouge_second", "rouge_released", "rouge_floor"]].mean()
    assert recognised[30, "other"] == 1
    assert recall.loc[30, "exact"] > 0.8
    assert recall.loc[0, "exact"] < 0.2
    assert recall.loc[0, "rouge_released"] >= recall.loc[0, "rouge_floor"] - 0.2  # high before anything is known
    assert recall.loc[0, "rouge_floor"] > 0.5


def test_a_unit_gives_the_same_tables_again() -> None:
    model = model_of("llama")
    unit, settings = StudyUnit("study", "scrambled", 1e-3, 0), Settings(**SMALL)
    first, second = (measure_unit(model, unit, settings) for _ in range(2))
    for name, table in first.items():
        assert table.equals(second[name])


def test_what_follows_a_training_takes_back_layers_and_goes_on_with_other_text() -> None:
    model = model_of("llama")
    before = bits(model)
    settings = Settings(**SMALL, kept_for=(1, 3), layer_groups=3)
    tables = measure_unit(model, AfterUnit("after", 3e-3, 0), settings)
    assert bits(model) == before
    assert sorted(set(tables["lasting_recall"]["updates_since"])) == [-1, 0, 1, 3]
    layers = tables["layers_recognition"].query("foil == 'other'")
    taken = layers.groupby(["taken_back", "control"])["nats_seen"].mean()
    whole = tables["lasting_recognition"].query("foil == 'other' and updates_since == 0")["nats_seen"].mean()
    assert taken["nothing", False] == pytest.approx(whole)
    own = layers[~layers["control"] & (layers["taken_back"] != "nothing")].drop_duplicates("taken_back")
    assert own["share"].sum() == pytest.approx(1)
    assert len(own) == 4


def test_training_on_other_text_that_diverges_is_said(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    model, calls, update = model_of("llama"), [], Trainer.update

    def diverging(self, rows):  # type: ignore[no-untyped-def]
        calls.append(rows)
        if len(calls) > 4:  # two passes over four sentences, two at a time
            raise DivergedError("the loss went from 4.00 to 9.00 nats per token")
        return update(self, rows)

    monkeypatch.setattr(measure.Trainer, "update", diverging)
    settings = Settings(**{**SMALL, "studied": 2, "kept_for": (1, 2), "layer_groups": 0})
    found = measure_unit(model, AfterUnit("after", 1e-2, 0), settings)
    assert found["updates"]["stopped"].tolist() == ["on other text the loss went from 4.00 to 9.00 nats per token"]
    assert found["updates"]["update"].tolist() == [5]
    assert sorted(found["lasting_recall"]["updates_since"].unique()) == [-1, 0]


def test_a_model_whose_rotary_embedding_grows_is_put_back_too() -> None:
    """Dynamic NTK swaps its table of frequencies with the length of a text; that is no weight."""
    rope = dict(rope_type="dynamic", factor=4.0, rope_theta=10_000.0)
    model = tiny("llama", max_position_embeddings=16, rope_parameters=rope)
    rows = [random_ids(12, seed=1), random_ids(30)]
    before = [model.surprisal([row])[:, 1:].clone() for row in rows]
    with restored(model):
        trainer = Trainer(model, 1e-2)
        for row in (*rows, rows[0]):
            trainer.update([row])
        assert not torch.equal(model.surprisal(rows[:1])[:, 1:], before[0])
    assert all(torch.equal(model.surprisal([row])[:, 1:], nats) for row, nats in zip(rows, before, strict=True))


def test_groups_hold_every_parameter_once() -> None:
    model = model_of("gpt2")
    groups = groups_of(model, 2)
    names = [name for group in groups.values() for name in group]
    assert sorted(names) == sorted(name for name, _ in model.hf.named_parameters())
    assert set(groups) == {"layers 0 to 1", "layer 2", "embedding and last norm"}
    first, trained = torch.zeros(200, 200), torch.ones(200, 200)
    back = mixed(first, trained, 0.3, torch.Generator().manual_seed(0))
    assert float((back == 0).float().mean()) == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("family", ["llama", "bamba", "mamba"])
def test_completions_are_the_likeliest_tokens_one_by_one(family: str) -> None:
    model = model_of(family)
    found = completions(model, ROWS, [3, 2, 3])
    for row, written, n in zip(ROWS, found, [3, 2, 3], strict=True):
        ids = list(row)
        for _ in range(n):
            ids.append(int(model.hf(torch.tensor([ids])).logits[0, -1].argmax()))
        assert written == ids[len(row) :]


def test_scores_by_hand() -> None:
    assert shared([1, 2, 3, 4], [1, 3, 4, 9]) == pytest.approx(0.75)
    assert shared([5], [6, 7]) == 0
    assert exact([1, 2, 3], [1, 9, 3]) == pytest.approx(2 / 3)
    model = model_of("llama")
    row = [1, *ROWS[0]] if model.tokenizer.bos_token_id == 1 else ROWS[0]
    assert mean_nats(model, [ROWS[0]])[0] == pytest.approx(float(model.surprisal([row]).nanmean()), abs=0.2)


@pytest.mark.parametrize("tokenizer", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("script", ["latin with accents", "cyrillic", "chinese", "arabic"])
def test_users_sentences_of_any_script_are_studied(script: str, tokenizer, tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "texts.txt").write_text("\n".join(SCRIPTS[script].sentences * 2), encoding="utf-8")
    settings = Settings(sentences=2, texts=tmp_path / "texts.txt")
    for condition in ("natural", "scrambled", "random"):
        items = items_of(tokenizer(), settings, condition, 0)
        assert len(items) == 2
        for item in items:
            assert 0 < item.half < len(item.ids) <= settings.most_tokens
            assert set(item.foils) == set(FOILS[condition])


def test_sentences_are_what_their_condition_says() -> None:
    settings = Settings(sentences=5)
    natural, scrambled, random = (items_of(byte_bpe(), settings, name, 0) for name in settings.conditions)
    for one, mixed_up in zip(natural, scrambled, strict=True):
        assert sorted(one.text.split()) == sorted(mixed_up.text.split())
        assert one.ids == mixed_up.foils["natural"]
    assert {item.text for item in natural}.isdisjoint(item.text for item in random)
    again = items_of(byte_bpe(), settings, "natural", 1)
    assert {item.text for item in again}.isdisjoint(item.text for item in natural)


def test_what_cannot_be_trained_is_refused_in_a_sentence(tmp_path) -> None:  # type: ignore[no-untyped-def]
    model = tiny("llama")
    model.hf.bfloat16()
    with pytest.raises(UserError, match="use --dtype float32"):
        Trainer(model, 1e-3)
    with pytest.raises(ArgumentError, match="must be float32"):
        Settings(dtype="bfloat16")
    with pytest.raises(ArgumentError, match="needs 0"):
        Settings(exposures=(1, 2))
    with pytest.raises(ArgumentError, match="goes with --duplicates"):
        Settings(revisions=("step1",))
    (tmp_path / "few.txt").write_text("One sentence only.\n")
    with pytest.raises(ArgumentError, match="needs twice as many"):
        items_of(byte_bpe(), Settings(texts=tmp_path / "few.txt"), "natural", 0)
    with pytest.raises(ArgumentError, match="There is no file"):
        items_of(byte_bpe(), Settings(texts=tmp_path / "none.txt"), "natural", 0)
    (tmp_path / "short.txt").write_text("a\nb\nc\nd\n")
    with pytest.raises(ArgumentError, match="sentences need 6 or more"):
        items_of(byte_bpe(), Settings(texts=tmp_path / "short.txt", sentences=2), "natural", 0)
    assert np.isfinite(Settings().learning_rates).all()
