"""The models that ship, and how they were trained: matched, resumable, and as good as their cards say."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM, LlamaConfig

from interp.assets import file_sha256
from interp.models.language.lstm import LSTMConfig
from interp.models.language.model import LanguageModel
from interp.models.language.word_tokens import token_bytes
from interp.models.loading.language import load
from interp.models.loading.names import TRAINED, resolve
from interp.models.tokens.encoding import beginning, encode_piece
from tests.script_texts import SCRIPTS
from training.corpus import cut_windows, pad_windows, plan_batches, split_articles, train_tokenizer
from training.loss import mean_nats
from training.recipe import SIZES, Recipe, architecture
from training.shipping import SLICE_ARTICLES
from training.train import all_batches, learning_rate, train

TEXTS = ["the cat sat on the mat and the dog sat on the cat", "a dog and a cat", "mat " * 40]

# ---------------------------------------------------------------------- what ships


def card(name: str) -> dict[str, Any]:
    return ModelCard.load(TRAINED / name / "README.md").data.to_dict()


SHIPPED = sorted(SIZES)
MATCHED = [name for name in SHIPPED if name != "fallback-news-4"]
"""The other one has a tokenizer of its own."""


@pytest.mark.parametrize("name", SHIPPED)
def test_a_model_ships_whole_and_loads_by_its_name_alone(name, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was asked"))
    assert resolve(name).source == f"trained:{name}"
    files = {path.name: path.stat().st_size for path in (TRAINED / name).iterdir()}
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json", "learning_curve.csv"} <= set(files)
    assert sum(files.values()) < 8e6
    model = load(name)
    assert model.hf.num_parameters() == card(name)["parameters"]
    assert model.context_window == (None if name == "lstm-news" else Recipe().window_tokens)
    nouns = [" zebra", " quartz", " émigré"]
    pieces = [encode_piece(model.tokenizer, noun).ids for noun in nouns]
    decoded = [text.strip() for text in model.tokenizer.batch_decode(pieces)]
    assert decoded == [noun.strip() for noun in nouns]  # any noun can be spelled
    assert beginning(model.tokenizer, "auto") == [model.tokenizer.eos_token_id]


def test_the_models_are_matched_in_all_but_architecture():
    cards = [card(name) for name in MATCHED]
    parameters = [one["parameters"] for one in cards]
    assert max(parameters) <= 1.05 * min(parameters)
    for fact in ("tokens_seen", "steps", "train_tokens", "train_articles", "held_out_tokens", "held_out_words"):
        assert len({one[fact] for one in cards}) == 1, fact
    assert len({file_sha256(TRAINED / name / "tokenizer.json") for name in MATCHED}) == 1
    configs = [load(name).hf.config for name in MATCHED]
    assert len({(config.vocab_size, config.hidden_size, config.tie_word_embeddings) for config in configs}) == 1
    layers = [1 if name.startswith("lstm") else int(name[-1]) for name in MATCHED]
    assert [config.num_hidden_layers for config in configs] == layers


def surprisals_of(model: LanguageModel, window: list[int]) -> torch.Tensor:
    """Of every token but the first; the last one is predicted and not read: a window is one token longer than what fits."""
    logits = model.extend(model.rows(1, len(window)), [window[:-1]], logits="all")[0]
    return -logits.log_softmax(-1).gather(-1, torch.tensor(window[1:])[:, None]).squeeze(-1)


@pytest.mark.real
def test_the_files_give_the_perplexity_on_the_card():
    """Measured anew on the card's slice, by the toolkit's own reading instead of the training's."""
    training_articles, held_out = split_articles()
    assert not set(training_articles) & set(held_out)
    for name in SHIPPED:
        model, facts = load(name), card(name)
        windows = cut_windows(model.tokenizer, held_out[:SLICE_ARTICLES], Recipe().window_tokens)
        surprisals = [surprisals_of(model, window) for window in windows]
        nats = torch.cat(surprisals).double()
        assert len(nats) == facts["slice_tokens"]
        assert nats.mean().item() == pytest.approx(facts["slice_nats_per_token"], abs=2e-4)
        n_words = sum(len(text.split()) for text in held_out[:SLICE_ARTICLES])
        per_word = math.exp(nats.sum().item() / n_words)
        assert per_word == pytest.approx(facts["slice_perplexity_per_word"], rel=1e-3)


# ---------------------------------------------------------------------- how they were trained


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("falls_back", [False, True])
def test_a_tokenizer_spells_any_text(script: str, falls_back: bool):
    tokenizer = train_tokenizer(TEXTS, 300, falls_back=falls_back)
    text = f"  {SCRIPTS[script].text}\n"
    ids = encode_piece(tokenizer, text, first=True).ids
    assert tokenizer.decode(ids) == text
    parts = token_bytes(tokenizer)
    spelled = b"".join(parts[id] or b"" for id in ids)
    assert spelled == (" " + text if falls_back else text).encode()
    commas = encode_piece(tokenizer, " cat, dog, mat, 12", first=True).ids
    assert [tokenizer.decode([id]) for id in commas].count(",") == 3
    assert tokenizer.all_special_ids == [ids.pop() for ids in [tokenizer("")["input_ids"]]]


def test_every_token_is_predicted_once_and_from_its_own_text():
    tokenizer = train_tokenizer(TEXTS, 300)
    windows = cut_windows(tokenizer, TEXTS, 16)
    end = tokenizer.eos_token_id
    whole = [[end, *encode_piece(tokenizer, text).ids, end] for text in TEXTS]
    assert [window[0] == end for window in windows].count(True) == len(TEXTS)
    assert max(map(len, windows)) == 17
    rest = iter(windows)
    for text in whole:
        predicted: list[int] = []
        while len(predicted) < len(text) - 1:
            window = next(rest)
            assert window[0] == [text[0], *predicted][-1]
            predicted += window[1:]
        assert predicted == text[1:]
    assert next(rest, None) is None


def test_an_epoch_holds_every_window_once_in_batches_that_fit():
    lengths = np.random.default_rng(0).integers(2, 60, 700).tolist()
    batches = plan_batches(lengths, 240, np.random.default_rng(1))
    assert sorted(window for batch in batches for window in batch) == list(range(700))
    padded = [len(batch) * max(lengths[window] for window in batch) for batch in batches]
    assert max(padded) <= 240
    assert sum(lengths) / sum(padded) > 0.8  # windows of similar length stand together
    assert plan_batches([500], 240, np.random.default_rng(1)) == [[0]]
    assert batches != plan_batches(lengths, 240, np.random.default_rng(2))


def test_padding_is_no_target():
    inputs, targets = pad_windows([[1, 2, 3, 4], [5, 6]])
    assert inputs.tolist() == [[1, 2, 3], [5, 0, 0]]
    assert targets.tolist() == [[2, 3, 4], [6, -100, -100]]


def test_the_loss_is_the_mean_over_tokens_not_over_batches_or_windows():
    class Fixed(torch.nn.Module):
        """Gives token 1 probability 1/2 and shares the rest among three others."""

        def forward(self, input_ids: torch.Tensor, use_cache: bool) -> Any:
            logits = torch.tensor([1 / 6, 1 / 2, 1 / 6, 1 / 6]).log().expand(*input_ids.shape, 4)
            return type("Output", (), {"logits": logits})

    nats, n_tokens = mean_nats(Fixed(), [[0, 1, 1, 1, 1, 1, 1], [0, 2]], batch_tokens=7)
    assert n_tokens == 7
    assert nats == pytest.approx((6 * math.log(2) + math.log(6)) / 7)


def test_the_learning_rate_rises_and_falls():
    recipe = Recipe(learning_rate=1.0, warm_up=0.1)
    rates = [learning_rate(step, recipe, 100) for step in range(100)]
    assert rates[:11] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.0])
    assert rates[55] == pytest.approx(0.5)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.001


def test_the_recipe_matches_parameters_within_half_a_percent():
    sizes = [AutoModelForCausalLM.from_config(architecture(name, Recipe())).num_parameters() for name in SIZES]
    assert max(sizes) < 1.005 * min(sizes)


TINY: dict[str, Any] = {
    "lstm": LSTMConfig(vocab_size=300, hidden_size=8, state_size=10, num_hidden_layers=2),
    "transformer": LlamaConfig(
        vocab_size=300,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=12,
        max_position_embeddings=32,
        tie_word_embeddings=True,
    ),
}


@pytest.mark.parametrize("kind", TINY)
def test_a_run_stopped_twice_ends_where_an_uninterrupted_one_does(kind, tmp_path):
    """Stopped between two checkpoints: the steps since the last one are done again."""
    recipe = Recipe(vocab_size=300, window_tokens=16, batch_tokens=48, epochs=2, checkpoint_steps=3, learning_rate=0.03)
    tokenizer = train_tokenizer(TEXTS, 300)
    windows = cut_windows(tokenizer, TEXTS * 3, recipe.window_tokens)
    n_steps = len(all_batches([len(window) for window in windows], recipe))
    assert n_steps > 8

    looked: list[int] = []

    def run(folder: Path, stop_after: int | None = None) -> tuple[Any, Any]:
        folder.mkdir(exist_ok=True)
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(TINY[kind])
        looked.clear()
        progress = train(
            model, windows, windows[:2], recipe, folder, stop_after=stop_after, look=lambda step, _: looked.append(step)
        )
        return model, progress

    whole, progress = run(tmp_path / "whole")
    assert looked == list(range(n_steps + 1))
    for stop, first in ((4, 0), (8, 3)):
        run(tmp_path / "parts", stop)
        assert looked == list(range(first, stop + 1))
        (tmp_path / "parts" / "checkpoint.aside").write_bytes(b"half a checkpoint")  # what a kill while writing leaves
    resumed, also = run(tmp_path / "parts")
    assert progress.step == also.step == n_steps
    assert progress.tokens == also.tokens == 2 * sum(len(window) - 1 for window in windows)
    assert progress.curve == also.curve
    for (name, one), two in zip(whole.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, two), name
    torch.manual_seed(1)
    fresh = AutoModelForCausalLM.from_config(TINY[kind])
    assert not torch.equal(next(whole.parameters()), next(fresh.parameters()))
    before = mean_nats(fresh, windows, 48)[0]
    assert mean_nats(whole, windows, 48)[0] < before - 0.05
    finished, again = run(tmp_path / "parts")  # nothing is left to do
    assert (again.step, again.curve) == (n_steps, progress.curve)
    assert torch.equal(next(finished.parameters()), next(whole.parameters()))


def test_the_seed_decides_the_order_of_windows():
    lengths = [10, 20, 30] * 40
    one, same, other = (all_batches(lengths, Recipe(seed=seed)) for seed in (0, 0, 1))
    assert one == same != other
    assert one[: len(one) // 2] != one[len(one) // 2 :]  # every epoch has an order of its own
