"""A model under another tokenizer: rows by hand, spellings byte by byte, folders whole or not at all, and what transformers reads back."""

import errno
import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from interp.errors import ArgumentError, RunError, UserError
from interp.models.language.word_tokens import token_bytes
from interp.models.loading.language import load_tokenizer
from interp.models.transplant.bits import scored
from interp.models.transplant.folder import check_place, write_folder
from interp.models.transplant.mixtures import Vocabulary, mixture, rebuilt_rows
from interp.models.transplant.rules import RULES
from interp.models.transplant.transplant import save, transplant
from interp.models.transplant.vocabularies import match, without_tokens
from tests.script_texts import SCRIPTS
from tests.script_tokenizers import EXACT, KINDS, byte_bpe, byte_fallback, unigram, word_piece
from tests.tiny_models import tiny
from tests.tiny_tokenizers import KINDS as SMALL_KINDS
from tests.tiny_tokenizers import of_kind, word_level

TEXTS = [SCRIPTS[name].text.replace("\n", " ")[:150] for name in ("latin with accents", "cyrillic", "greek")]


def model_with(tokenizer: Any, family: str = "llama", dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    model = tiny(family, tokenizer=tokenizer, vocab_size=len(tokenizer), **changes)
    model.hf.to(dtype)
    return model


# ---------------------------------------------------------------------- rows


def vocabulary() -> Vocabulary:
    rows = torch.eye(6)
    rows[4] = torch.tensor([0.6, 0.8, 0, 0, 0, 0])  # between the first two
    return Vocabulary(rows, [" walk", "ing", "ed", " talked", " walks", ""], torch.tensor([True] * 5 + [False]))


def test_rows_by_hand() -> None:
    old, pieces, texts = vocabulary(), [(0, 1), (0,), ()], [" walking", " walk", "?"]
    rows = {rule: mixture(rule, pieces, texts, old).toarray() for rule in RULES if rule != "random"}
    assert rows["mean"].tolist() == [[0.5, 0.5, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0], [0] * 6]
    assert rows["first"][0].tolist() == [1, 0, 0, 0, 0, 0]
    assert rows["last"][0].tolist() == [0, 1, 0, 0, 0, 0]
    # both pieces are as like their mean, so length decides: five letters (with the blank) to three
    assert rows["local"][0] == pytest.approx([5 / 8, 3 / 8, 0, 0, 0, 0])
    assert (
        rows["local+global"][0, 4] > rows["local+global"][0, 3]
    )  # the row between the two is the nearest that is no piece
    assert (
        rows["spelling"][0, 4] > rows["spelling"][0, 3] > rows["spelling"][0, 2]
    )  # runs shared: of walks, of talked, of ed
    for found in rows.values():
        assert found[:2].sum(axis=1) == pytest.approx([1, 1])
        assert found[2].sum() == 0
    made = rebuilt_rows("mean", old.rows, mixture("mean", pieces, texts, old), old, 3)
    assert torch.allclose(made[0], torch.tensor([0.5, 0.5, 0, 0, 0, 0]))
    assert torch.allclose(made[2], old.rows[:5].mean(dim=0))  # no pieces: the mean of what may be taken
    drawn = rebuilt_rows("random", torch.randn(6, 4000), None, old, 3)
    assert drawn.std() == pytest.approx(1, abs=0.4)
    with pytest.raises(ArgumentError, match="are drawn"):
        mixture("random", pieces, texts, old)


# ---------------------------------------------------------------------- vocabularies


@pytest.mark.parametrize(
    ("old", "new"), [pair for pair in product(EXACT, KINDS) if pair[0] is not pair[1]], ids=lambda kind: kind.__name__
)
def test_pieces_spell_what_they_stand_for(old: Any, new: Any) -> None:
    found, ours, theirs = match(old(), new()), token_bytes(old()), token_bytes(new())
    assert len(found.shared) + len(found.pieces) == len(new())
    special = set(new().all_special_ids)
    for id, other in found.shared.items():
        assert id in special or theirs[id] == ours[other]
    spelled = [id for id, ids in found.pieces.items() if ids]
    assert len(spelled) > 50
    for id in spelled:
        assert b"".join(ours[piece] or b"" for piece in found.pieces[id]) == theirs[id], theirs[id]
    assert all(
        id in special or not theirs[id] for id, ids in found.pieces.items() if not ids
    )  # every byte can be spelled


@pytest.mark.parametrize("kind", [byte_bpe, byte_fallback, unigram, word_piece])
def test_a_tokenizer_without_a_token_spells_it_by_others(kind: Any) -> None:
    tokenizer = kind()
    text = TEXTS[0]
    whole = tokenizer(text, add_special_tokens=False)["input_ids"]
    names = {id: tokenizer.convert_ids_to_tokens(id).removeprefix("##") for id in whole}
    left_out = {id for id, name in names.items() if len(name) > 2 and not name.startswith("<0x")}
    assert left_out
    smaller = without_tokens(tokenizer, left_out)
    ids = smaller.encode(text, add_special_tokens=False).ids
    assert left_out.isdisjoint(ids)
    assert tokenizer.decode(ids) == tokenizer.decode(whole)
    assert len(ids) > len(whole)


# ---------------------------------------------------------------------- models


def test_its_own_vocabulary_changes_nothing() -> None:
    model = model_with(byte_bpe())
    before = model.surprisal([list(range(5, 30))])
    done = transplant(model, byte_bpe(), rule="mean", choosing=[], held_out=TEXTS)
    assert torch.equal(done.model.surprisal([list(range(5, 30))])[:, 1:], before[:, 1:])
    assert done.after.per_byte(minus=done.before)[:3] == (0, 0, 0)
    assert not done.match.pieces


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {}),
        ("gpt2", {}),
        ("gptj", {}),
        ("gemma3_text", {}),
        ("bamba", {}),
        ("mamba", dict(hidden_size=32, num_hidden_layers=2)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_written_model_is_what_was_measured(family: str, changes: Any, dtype: torch.dtype, tmp_path: Path) -> None:
    old, new = byte_bpe(), byte_fallback()
    model = model_with(old, family, dtype, **changes)
    embedding, head = model.hf.get_input_embeddings(), model.hf.get_output_embeddings()
    tables = [embedding.weight.data.clone(), head.weight.data.clone()]
    tied = head.weight is embedding.weight
    done = transplant(model, new, rule="mean", choosing=[], held_out=TEXTS)
    save(done, tmp_path / "out", tokenizer_name="theirs")
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=dtype).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = tokenizer(TEXTS[0], return_tensors="pt")["input_ids"][:, :40]
    assert ids.tolist() == [new(TEXTS[0])["input_ids"][:40]]
    wanted = -torch.log_softmax(read(ids).logits[0].float(), -1)[range(ids.shape[1] - 1), ids[0, 1:]]
    found = done.model.surprisal(ids.tolist())[0, 1:]
    assert torch.allclose(found, wanted, atol=1e-3 if dtype == torch.float32 else 0.3)
    assert read.config.vocab_size == len(new)
    assert (read.get_output_embeddings().weight is read.get_input_embeddings().weight) == tied
    for table, module in zip(tables, (read.get_input_embeddings(), read.get_output_embeddings()), strict=True):
        for id, other in list(done.match.shared.items())[:40]:
            assert torch.equal(module.weight[id], table[other])
        id = next(id for id, ids in done.match.pieces.items() if len(ids) == 2)
        mean = table[list(done.match.pieces[id])].float().mean(dim=0)
        assert torch.allclose(module.weight[id].float(), mean, atol=1e-6 if dtype == torch.float32 else 0.02)
    record = json.loads((tmp_path / "out" / "transplant.json").read_text())
    assert record["rule"] == "mean"
    assert record["bits_per_byte"]["before"]["value"] == pytest.approx(done.before.per_byte().value)


def test_the_best_rule_is_chosen_on_other_texts() -> None:
    lines: list[str] = []
    done = transplant(model_with(byte_bpe()), unigram(), choosing=TEXTS[:2], held_out=TEXTS[2:], say=lines.append)
    assert set(done.tried) == set(RULES)
    assert done.rule == min(done.tried, key=done.tried.__getitem__)
    assert len(lines) == 1 + len(RULES)
    again = transplant(model_with(byte_bpe()), unigram(), rule=done.rule, choosing=[], held_out=TEXTS[2:])
    assert np.allclose(again.after.nats, done.after.nats, atol=1e-3)


# ---------------------------------------------------------------------- what is refused


def test_what_cannot_be_transplanted_is_refused() -> None:
    quantised = model_with(byte_bpe())
    quantised.hf.config.quantization_config = {"quant_method": "gptq"}
    with pytest.raises(UserError, match="quantised weights, whose rows cannot be replaced"):
        transplant(quantised, byte_fallback(), rule="mean", choosing=[], held_out=TEXTS)
    with pytest.raises(ArgumentError, match="too short"):
        transplant(model_with(byte_bpe()), byte_fallback(), rule="mean", choosing=[], held_out=["short"])
    with pytest.raises(UserError, match="no pieces"):
        without_tokens(word_level(), [1])


@pytest.mark.parametrize("kind", SMALL_KINDS)
def test_bits_are_those_of_the_text_as_it_is_given(kind: str) -> None:
    """Those that write small letters, or none with accents, of which there are fewer: their bits would be those of another text."""
    tokenizer = of_kind(kind, (*TEXTS, "Élodie a vu le garçon. élodie") * 4)
    normaliser = tokenizer.backend_tokenizer.normalizer
    for text in (" Élodie a vu le", " a vu le garçon", " a vu le"):
        written = normaliser.normalize_str(text) if normaliser else text
        if written.replace("▁", " ").strip() == text.strip():
            assert scored(tokenizer, text)
        else:
            with pytest.raises(ArgumentError, match=r"The tokenizer writes '.*' for "):
                scored(tokenizer, text)


def test_only_the_tokenizer_of_the_other_folder_is_read(tmp_path: Path) -> None:
    other = model_with(byte_fallback(), hidden_size=32, head_dim=8)  # another width
    other.hf.save_pretrained(tmp_path / "other")
    byte_fallback().save_pretrained(tmp_path / "other")
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    (tmp_path / "other" / "config.json").write_text(
        json.dumps({**config, "quantization_config": {"quant_method": "gptq"}})
    )
    tokenizer = load_tokenizer(str(tmp_path / "other"))
    done = transplant(model_with(byte_bpe()), tokenizer, rule="mean", choosing=[], held_out=TEXTS)
    assert done.model.hf.get_input_embeddings().weight.shape == (len(byte_fallback()), 64)  # type: ignore[union-attr]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArgumentError, match="has no tokenizer files: name a folder"):
        load_tokenizer(str(tmp_path / "empty"))
    with pytest.raises(ArgumentError, match="no model or folder named"):
        load_tokenizer(str(tmp_path / "nowhere"))


def test_a_folder_is_whole_or_absent(tmp_path: Path) -> None:
    out = tmp_path / "new" / "model"
    left = out.parent / ".model.4194304.partial"  # of a process that is no more: above the largest number of one
    left.mkdir(parents=True)

    def full(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(RunError, match=r"No space left on device.*--out"):
        write_folder(out, full)
    assert list(out.parent.iterdir()) == []
    write_folder(out, lambda folder: (folder / "config.json").write_text("{}"))
    assert [path.name for path in out.iterdir()] == ["config.json"]
    with pytest.raises(ArgumentError, match="is there already"):
        check_place(out)
    with pytest.raises(ArgumentError, match="Nothing can be written"):
        check_place(out / "config.json" / "below")


def test_the_command(call: Any, tiny: str, tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for place in range(6):
        (texts / f"{place}.txt").write_text(" ".join(f"w{(7 * place + word) % 90 + 5}" for word in range(150)))
    words = ["transplant", "--model", tiny, "--tokenizer", tiny, "--texts", texts, "--passages", "2", "--rule", "mean"]
    status, said, errors = call(*words, "--out", tmp_path / "out")
    assert (status, errors) == (0, "")
    assert "difference:           +0.000 [+0.000, +0.000]" in said
    status, _, errors = call(*words, "--out", tmp_path / "out")
    assert (status, errors) == (2, f"{tmp_path / 'out'} is there already: name a new folder with --out.\n")
    status, _, errors = call(*words, "--out", tmp_path / "other", "--passages", "40")
    assert status == 2
    assert "give more --texts" in errors
