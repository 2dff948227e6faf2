"""Ciphers, frames and pieces: their arithmetic by hand, and on tiny models of many families, tokenizers and both precisions."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from interp.errors import ArgumentError, UserError
from interp.models.tokens.encoding import encode_piece
from interp.tables import checked, empty
from probes.embedding_swap.ciphers import N_CONTROLS, _other_places, gaussian_rows, joint_rows, key_of, measure_cipher
from probes.embedding_swap.experiment import EmbeddingSwap
from probes.embedding_swap.materials import materials_of
from probes.embedding_swap.measure import measure_unit
from probes.embedding_swap.pieces import held_out
from probes.embedding_swap.plan import CipherUnit, plan_units
from probes.embedding_swap.scores import derangement, frame_effect, readout, seen_before, word_effect
from probes.embedding_swap.settings import Settings
from probes.embedding_swap.summaries import summarise
from probes.embedding_swap.tables import MEASURED, SCHEMAS
from tests.script_texts import SCRIPTS
from tests.script_tokenizers import byte_bpe, byte_fallback, unigram, word_piece
from tests.tiny_models import tiny
from tests.tiny_tokenizers import word_level

CIPHER = CipherUnit("cipher", "cipher", "words", 1.0, True)
MODELS = [
    ("llama", byte_bpe, "float32"), ("mistral", byte_fallback, "bfloat16"), ("mamba", unigram, "float32"),
    pytest.param("gpt2", word_piece, "float32", marks=pytest.mark.slow),
    pytest.param("gemma2", unigram, "float32", marks=pytest.mark.slow),
    pytest.param("bamba", unigram, "bfloat16", marks=pytest.mark.slow),
    pytest.param("bamba", byte_fallback, "float32", marks=pytest.mark.slow),
]  # fmt: skip
SMALLER = {"llama": {"num_hidden_layers": 2}, "mamba": {"num_hidden_layers": 2, "hidden_size": 32}}
UNREAD_SCRIPT = "latin with accents"
"""The text that is not read: the small vocabularies then have words that are in no text."""


def model_with(family: str, tokenizer: Any, dtype: torch.dtype = torch.float32) -> Any:
    model = tiny(family, tokenizer=tokenizer(), vocab_size=len(tokenizer()), **SMALLER.get(family, {}))
    model.hf.to(dtype)
    return model


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text of every script but one."""
    folder = tmp_path_factory.mktemp("texts")
    for name, script in SCRIPTS.items():
        if name == UNREAD_SCRIPT:
            continue
        (folder / f"{name}.txt").write_text(" ".join(3 * [script.text]), encoding="utf-8")
    return folder


def settings_for(model: Any, texts: Path, folder: Path, **changes: Any) -> Settings:
    """Small settings, with frames of words that are one token of the model's vocabulary."""
    given = dict(
        texts=texts, texts_per_cipher=2, text_tokens=32, shares=(1.0,), classes=("words",), nonce_words=2, words_per_class=3,
        held_out_tokens=2, rules=("random", "mean", "spelling"),
    )  # fmt: skip
    settings = EmbeddingSwap(**{**given, **changes})  # type: ignore[arg-type]
    materials = materials_of(model, settings)
    order = sorted(materials.words.tolist(), key=lambda token: -materials.counts[token])
    names = dict.fromkeys(materials.token_texts[id].strip() for id in order)
    words = [name for name in names if len(encode_piece(model.tokenizer, f" {name}", first=False).ids) == 1][:8]
    frames = folder / "frames.toml"
    lines = []
    for part, own in (("this", words[:4]), ("that", words[4:])):
        quoted = ", ".join(f'"{word}"' for word in own)
        lines.append(
            f'[{part}]\nframes = ["Read {part} ___ below.", "{part} ___", "a {part} ___ it", "the {part} ___ by"]'
        )
        lines.append(f'tests = ["Read {part}"]\nwords = [{quoted}]')
    frames.write_text("\n".join(lines), encoding="utf-8")
    return EmbeddingSwap(**{**given, **changes, "frames": frames})  # type: ignore[arg-type]


# ---------------------------------------------------------------------- by hand


def test_what_was_seen_before() -> None:
    assert seen_before([1, 2, 1, 2, 2, 3]) == ["new", "new", "again", "recall", "again", "new"]


def test_no_token_keeps_its_row() -> None:
    for n in (2, 3, 50):
        found = derangement(n, np.random.default_rng(n))
        assert sorted(found) == list(range(n))
        assert not (found == np.arange(n)).any()
    with pytest.raises(ValueError, match="no other"):
        derangement(1, np.random.default_rng(0))


def test_effects_by_hand() -> None:
    alike = np.add.outer([1.0, 5, 2], [0.0, 3, 7])  # whatever a frame or a test does to every word alike
    assert frame_effect(alike) == pytest.approx(0)
    assert frame_effect(alike + 2 * np.eye(3)) == pytest.approx(2)
    words = np.tile([4.0, 1, 0], (4, 1))  # a test that all words like, and three words of one class
    classes = np.array([0, 0, 1, 2])
    assert word_effect(words, classes) == pytest.approx(np.zeros(4))
    assert word_effect(words + 3 * np.eye(3)[classes], classes) == pytest.approx(np.full(4, 3.0))


def test_a_readout_finds_what_is_there_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 20)
    x = rng.standard_normal((60, 40))
    assert (readout(x[::2], labels[::2], x[1::2], 3) == labels[1::2]).mean() < 0.7
    x[:, :24] += 4 * np.tile(np.eye(3)[labels], 8)
    assert (readout(x[::2], labels[::2], x[1::2], 3) == labels[1::2]).mean() > 0.9


def test_the_control_of_a_place_is_another_place_of_its_text() -> None:
    assert _other_places([0, 0, 0, 1, 2, 2]) == [1, 2, 0, 3, 5, 4]


# ---------------------------------------------------------------------- models


def test_after_the_last_layer_the_lens_says_what_the_logits_say(texts: Path, tmp_path: Path) -> None:
    """The margin of a token over others of its class: behind the token before it where it is predicted, behind itself where it is read."""
    model = model_with("llama", byte_bpe)
    settings = settings_for(model, texts, tmp_path)
    lens = measure_unit(model, CipherUnit("plain", "plain", "words", 1.0, True), settings)["lens"]
    materials = materials_of(model, settings)
    members = materials.members("words")
    rng = np.random.default_rng([settings.seed, 7])
    controls = [rng.choice(members, N_CONTROLS, replace=False) for _ in range(settings.texts_per_cipher)]
    first = len(materials.lead)
    assert set(lens["which"]) == {"plain", "plain, of another place"}
    last = (
        lens[(lens["layer"] == model.n_layers - 1) & (lens["which"] == "plain")]
        .set_index(["text_id", "where", "seen"])["margin_nats"]
        .sort_index()
    )
    assert len(last)
    for text, own in enumerate(materials.passages(settings.texts_per_cipher, settings.text_tokens)):
        ids = [*materials.lead, *own]
        logits = model.hf(torch.tensor([ids])).logits[0].double()
        seen = seen_before(ids)
        for where, offset in (("predicting", 1), ("reading", 0)):
            for kind in last.loc[text, where].index:
                places = [at for at in range(max(1, first), len(ids)) if ids[at] in set(members) and seen[at] == kind]
                wanted = [logits[at - offset, ids[at]] - logits[at - offset, controls[text]].mean() for at in places]
                assert last[text, where, kind] == pytest.approx(float(torch.stack(wanted).mean()), abs=1e-4)


@pytest.mark.parametrize(("family", "tokenizer", "dtype"), MODELS, ids=lambda part: getattr(part, "__name__", part))
def test_every_part_on_every_kind_of_model(
    family: str, tokenizer: Any, dtype: str, texts: Path, tmp_path: Path
) -> None:
    model = model_with(family, tokenizer, getattr(torch, dtype))
    settings = settings_for(model, texts, tmp_path)
    tables: dict[str, list[pd.DataFrame]] = {name: [empty(schema)] for name, schema in MEASURED.items()}
    for unit in plan_units(settings):
        for name, table in measure_unit(model, unit, settings).items():
            tables[name] = [part for part in tables[name] if len(part)] + [
                checked(table.assign(model="tiny"), MEASURED[name])
            ]
    joined = {name: pd.concat(parts, ignore_index=True).drop(columns="model") for name, parts in tables.items()}
    assert [name for name, table in joined.items() if not len(table)] == (
        ["lens"] if family == "mamba" else []  # its logits are no sum of what heads write
    )
    for name, table in summarise(joined, 0).items():
        checked(table.assign(model="tiny"), SCHEMAS[name])
    places = joined["places"]
    assert np.isfinite(places["surprisal_nats"]).all()
    kinds = places.pivot_table(index=["text_id", "position"], columns="kind", values="is_changed")
    assert (kinds.nunique(axis=1) == 1).all()  # all kinds of rows change the same tokens, here all words
    rebuilt = joined["rebuilt"]
    for _, row in rebuilt.iterrows():
        assert "".join(row["pieces"].split("|")) == row["token"]
    assert set(rebuilt["rule"]) == {"own", "spelled", *settings.rules}
    assert rebuilt.loc[rebuilt["rule"] == "mean", "raw_cosine"].between(-1, 1).all()


def test_a_cipher_reads_the_text_in_other_letters(texts: Path, tmp_path: Path) -> None:
    model = model_with("llama", byte_bpe)
    settings = settings_for(model, texts, tmp_path)
    materials = materials_of(model, settings)
    key = key_of(model, materials, CIPHER, settings, 2)
    found = measure_cipher(model, CIPHER, settings)["places"]
    for text, ids in enumerate(materials.passages(2, 32)):
        own = dict(zip(key.ids[text].tolist(), key.rows[text].tolist(), strict=True))
        whole = [*materials.lead, *(own.get(id, id) for id in ids)]
        wanted = model.surprisal([whole])[0, max(1, len(materials.lead)) :]
        rows = found[found["text_id"] == text]
        assert rows["surprisal_nats"].to_numpy() == pytest.approx(wanted.numpy(), abs=1e-4)
        assert rows["is_changed"].tolist() == [id in own for id in rows["token_id"]]


def test_keys_are_drawn_anew_for_every_text_and_not_for_every_kind(texts: Path, tmp_path: Path) -> None:
    model = model_with("llama", byte_bpe)
    settings = settings_for(model, texts, tmp_path)
    materials = materials_of(model, settings)
    half = [CipherUnit("x", kind, "words", 0.5, False) for kind in ("cipher", "gaussian", "rare")]
    keys = [key_of(model, materials, unit, settings, 2) for unit in half]
    assert (keys[0].ids == keys[1].ids).all()
    assert (keys[0].ids == keys[2].ids).all()
    assert (keys[0].ids[0] != keys[0].ids[1]).any()
    assert set(keys[2].rows.flatten().tolist()) <= set(materials.unread().tolist())


def test_gaussian_rows_have_the_words_mean_and_covariance(texts: Path, tmp_path: Path) -> None:
    """Of both tables together where there are two: what goes out has the size of the head's rows, and belongs to what goes in."""
    for family in ("mamba", "llama"):
        model = model_with(family, byte_bpe)
        materials = materials_of(model, settings_for(model, texts, tmp_path))
        words = torch.from_numpy(materials.words)
        rows_in = model.hf.get_input_embeddings().weight.data[words].double()
        if family == "llama":  # a table on a scale of its own, that has to do with the other
            model.hf.get_output_embeddings().weight.data.mul_(0.3).add_(
                0.2 * model.hf.get_input_embeddings().weight.data
            )
        drawn_in, drawn_out = gaussian_rows(model, materials, 20_000, [np.random.default_rng(0)])
        assert (drawn_out is None) == (family == "mamba")
        drawn = drawn_in[0].double() if drawn_out is None else torch.cat([drawn_in[0], drawn_out[0]], dim=1).double()
        rows_out = model.hf.get_output_embeddings().weight.data[words].double()
        rows = rows_in if family == "mamba" else torch.cat([rows_in, rows_out], dim=1)
        assert torch.allclose(drawn.mean(dim=0), rows.mean(dim=0), atol=0.02)
        assert torch.allclose(torch.cov(drawn.T), torch.cov(rows.T, correction=0), atol=0.02)


@pytest.mark.parametrize("n_words", [8, 400], ids=["fewer words than dimensions", "more"])
@pytest.mark.parametrize("n_texts", [1, 3])
def test_rows_of_two_tables_have_their_joint_covariance_whichever_are_asked_for(n_words: int, n_texts: int) -> None:
    """A draw of the words' rows with normal weights, and one by a triangular root, give the same law."""
    generator, width_out, n = np.random.default_rng(0), 5, 30_000
    rows = torch.from_numpy(generator.normal(size=(n_words, 12)) @ generator.normal(size=(12, 12)) + 3.0).float()

    def drawn(wanted: Any, n: int) -> Any:
        return joint_rows(rows, width_out, wanted, n, [np.random.default_rng(text) for text in range(n_texts)])

    into, out = drawn([np.arange(n)] * n_texts, n)
    both = torch.cat([into, out], dim=2).flatten(0, 1).double()
    size = float(rows.var(dim=0).mean())
    assert torch.allclose(both.mean(dim=0), rows.double().mean(dim=0), atol=0.05 * size**0.5)
    assert torch.allclose(torch.cov(both.T), torch.cov(rows.double().T, correction=0), atol=0.05 * size)
    some = [np.array([5, 17, 20_000]) + text for text in range(n_texts)]
    fewer, same = drawn(some, n)
    assert torch.equal(same, out)
    wanted = torch.stack([into[text, torch.from_numpy(own)] for text, own in enumerate(some)])
    assert torch.allclose(fewer, wanted, atol=1e-4)
    few = [joint_rows(rows, width_out, [np.arange(2)], 2, [np.random.default_rng([1, draw])]) for draw in range(4000)]
    both = torch.stack([torch.cat([one[0], out[0]], dim=1) for one, out in few]).flatten(0, 1).double()
    assert torch.allclose(torch.cov(both.T), torch.cov(rows.double().T, correction=0), atol=0.1 * size)


def test_gaussian_rows_are_put_in_on_both_sides(texts: Path, tmp_path: Path) -> None:
    model = model_with("llama", byte_bpe)
    model.hf.get_output_embeddings().weight.data.mul_(0.05)
    settings = settings_for(model, texts, tmp_path)
    materials = materials_of(model, settings)
    unit = CipherUnit("x", "gaussian", "words", 0.5, False)
    key = key_of(model, materials, unit, settings, settings.texts_per_cipher)
    found = measure_cipher(model, unit, settings)["places"]
    ids = [[*materials.lead, *text] for text in materials.passages(settings.texts_per_cipher, settings.text_tokens)]
    changed = copy.deepcopy(model.hf)
    changed.get_input_embeddings().weight.data[torch.from_numpy(key.ids[0])] = key.rows[0]
    changed.get_output_embeddings().weight.data[torch.from_numpy(key.ids[0])] = key.rows_out[0]
    wanted = model.rewrapped(changed).surprisal(ids[:1])[0]
    first = len(materials.lead)
    own = found[found["text_id"] == 0]
    assert np.allclose(own["surprisal_nats"], wanted[own["position"].to_numpy() + first], atol=1e-3)
    assert float(key.rows_out.std()) < 0.2 * float(key.rows.std())


# ---------------------------------------------------------------------- what is refused


def test_what_cannot_be_measured_is_refused(texts: Path, tmp_path: Path) -> None:
    model = model_with("llama", byte_bpe)
    settings = settings_for(model, texts, tmp_path)
    for part, changes, said in (
        ("cipher", {"texts_per_cipher": 40}, "40 are needed: give more --texts"),
        ("pieces", {"held_out_tokens": 400}, "lower --held-out-tokens"),
        ("frames", {"nonce_words": 900}, "lower --nonce-words"),
    ):
        other = settings_for(model, texts, tmp_path, **changes)
        unit = next(unit for unit in plan_units(other) if unit.id.startswith(part))
        with pytest.raises(ArgumentError, match=said):
            measure_unit(model, unit, other)
    one = tmp_path / "one"
    one.mkdir()
    (one / "text.txt").write_text("1 2 3 4 5 6 7 8 9")
    lonely = EmbeddingSwap(texts=one, classes=("frequent",))
    with pytest.raises(ArgumentError, match="The class frequent has 0 of this vocabulary's tokens, and two are needed"):
        materials_of(model, lonely).members("frequent")
    words = tiny("llama", tokenizer=word_level(), vocab_size=97)
    (one / "text.txt").write_text(" ".join(f"w{id % 90 + 1}" for id in range(400)))
    with pytest.raises(UserError, match="no pieces"):
        held_out(words, materials_of(words, lonely), settings)
    for content, said in (
        ("", "two"), ("[noun]\nframes = 1", "not a file of frames"),
        ('[a]\nframes = ["x y"]\ntests = ["t"]\nwords = ["w"]\n[b]\nframes = []\ntests = []\nwords = []', "needs one slot"),
        ('[a]\nframes = ["x ___"]\ntests = ["t"]\nwords = ["w"]\n[b]\nframes = []\ntests = []\nwords = []', "four frames"),
    ):  # fmt: skip
        path = tmp_path / f"{len(content)}.toml"
        path.write_text(content)
        with pytest.raises(ArgumentError, match=said):
            Settings(frames=path).read_frames()
    with pytest.raises(ArgumentError, match="There is no file"):
        Settings(frames=tmp_path / "none.toml").read_frames()
    with pytest.raises(ArgumentError, match="--texts-per-cipher must be at least 2, not 1"):
        Settings(texts_per_cipher=1)


@pytest.mark.slow
def test_a_run_ends_with_its_figures(texts: Path, tmp_path: Path) -> None:
    model = model_with("llama", byte_fallback)
    model.hf.save_pretrained(tmp_path / "model")
    byte_fallback().save_pretrained(tmp_path / "model")
    settings = settings_for(model, texts, tmp_path)
    run = EmbeddingSwap(**{**vars(settings), "model": str(tmp_path / "model")}).run(out=tmp_path / "runs")
    assert set(run.experiment.figures(run.tables)) == {
        "ciphers",
        "course",
        "lens_layers",
        "effects",
        "accuracy",
        "rules",
    }
    assert len(run.experiment.findings(run.tables)) > 10
    accuracy = run.tables["accuracy"]
    of_no_class = ~accuracy["kind"].isin(["known", "conflict"])
    assert of_no_class.any()
    assert (accuracy["word_share"].isna() == of_no_class).all()


@pytest.mark.slow
def test_a_model_without_a_list_of_layers_has_ciphers_and_behaviour(tmp_path: Path) -> None:
    run = EmbeddingSwap(model="lstm-news", **EmbeddingSwap.presets["quick"]).run(out=tmp_path)
    assert len(run.tables["effects"])
    assert len(run.tables["ciphers"])
    assert not len(run.tables["accuracy"])
    warnings = [finding.text for finding in run.findings if finding.kind == "warning"]
    assert [text.partition(":")[0] for text in warnings] == ["No lens", "No readout"]


def test_what_is_read_before_a_word_is_as_uncertain_as_there_are_frames_and_not_words():
    """The state before the slot is the same for all words: 12 of them in six frames are six pieces of evidence."""
    words, classes = [f"w{index}" for index in range(12)], ["noun", "verb"]
    behaviour = pd.DataFrame(
        {"revision": "own", "kind": "known", "word": word, "word_class": classes[index % 2], "frame_class": frame, "test_class": test,
         "log_p": -1.0}
        for index, word in enumerate(words)
        for frame in classes
        for test in classes
    )  # fmt: skip
    readouts = pd.DataFrame(
        {"revision": "own", "kind": "known", "word": word, "frame_class": of, "frame": frame, "layer": 0, "place": place,
         "is_frame_class": hit, "is_word_class": False, "shuffled_share": 0.5}
        for place in ("word", "before")
        for index, word in enumerate(words)
        for of in classes
        for frame in range(3)
        for hit in ([frame != 0] if place == "before" else [index % 3 != 0])
    )  # fmt: skip
    tables = {name: empty(schema) for name, schema in MEASURED.items()} | {"behaviour": behaviour, "readouts": readouts}
    accuracy = summarise(tables, 0)["accuracy"].set_index("place")
    assert accuracy["n"].to_dict() == {"word": 12, "before": 6}
    assert accuracy["frame_share"].tolist() == pytest.approx([2 / 3, 2 / 3])
    width = accuracy["frame_share_ci_high"] - accuracy["frame_share_ci_low"]
    assert width["before"] > 1.2 * width["word"]
