"""How the models of scenes are trained: what encoders are told, where objects go, and runs that are stopped and go on."""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import torch
from huggingface_hub import ModelCard
from torch.nn.functional import pixel_shuffle
from transformers import T5EncoderModel

from interp.models.loading.image import load_image
from interp.models.pixel_latents import PixelLatents
from probes.t2i_flow.judges import is_exact
from probes.t2i_flow.scenes import COLOURS, SENSES, SHAPES, Item, Scene, caption, item_named, sample_scenes
from training.shapes import shipping
from training.shapes import train as command
from training.shapes.accept import Seconds, Share, as_table, different_scenes, measure, sense_scenes
from training.shapes.captions import read_captions
from training.shapes.denoiser import learning_rate, new_denoiser, new_scheduler, train_denoiser
from training.shapes.encoder import _Free, _Guarded, new_encoder, spread_of_equal_tokens, train_encoder
from training.shapes.pictures import cells_in_noise, latents_of
from training.shapes.recipe import DenoiserRecipe, EncoderRecipe
from training.shapes.vocabulary import CONTEXT_TOKENS, build_clip_tokenizer, build_tokenizer, pieces, t5_pieces, words

pytestmark = pytest.mark.slow

SMALL = EncoderRecipe(width=16, layers=1, heads=2, batch=48, steps=30)
BAT = Scene(caption(["red bat", "cyan plus sign"], ["the", ""], context="game", context_before=True),
            (item_named("red", "bat", "game"), Item("cyan", "plus sign")), "game", True)  # fmt: skip
TRIANGLE = Scene(caption(["magenta triangle"]), (Item("magenta", "triangle"),))

# ---------------------------------------------------------------------- texts


def test_every_word_is_written_in_its_pieces():
    tokenizer: Any = build_clip_tokenizer()
    for word in words():
        assert tuple(tokenizer.tokenize(word)) == pieces(word)
    counts = {len(tokenizer.tokenize(shape)) for shape in SHAPES}
    assert counts == {1, 2, 3}
    assert {len(tokenizer.tokenize(colour)) for colour in COLOURS} == {1, 2}
    read = tokenizer("Zebra, 7!").input_ids  # a word of no scene is spelled
    assert tokenizer.decode(read, skip_special_tokens=True).replace(" ", "") == "zebra,7!"
    assert len({tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}) == 3


def test_both_kinds_of_tokenizer_split_every_word_alike():
    clip, t5 = build_tokenizer("free"), build_tokenizer("bidirectional")
    for word in words():
        assert tuple(t5.tokenize(word)) == t5_pieces(word)
        assert [piece.removeprefix("▁") for piece in t5_pieces(word)] == [
            piece.removesuffix("</w>") for piece in clip.tokenize(word)
        ]
    read = t5("Zebra, 7!").input_ids
    assert t5.decode(read, skip_special_tokens=True).replace(" ", "") == "Zebra,7!"
    assert t5.unk_token_id not in read


@pytest.mark.parametrize("regime", ["free", "bidirectional"])
def test_the_longest_caption_fits(regime):
    item = Item("magenta", "triangle")
    text = caption([item.phrase, item.phrase], ["the", "the"], "beside", "game", True)
    assert len(build_tokenizer(regime)(text).input_ids) <= CONTEXT_TOKENS


def test_positions_of_a_caption_that_t5_reads_by_hand():
    tokenizer = build_tokenizer("bidirectional")
    read = read_captions([TRIANGLE, BAT], tokenizer)
    tokens = [tokenizer.convert_ids_to_tokens(row) for row in read.ids.tolist()]
    assert tokens[0][:8] == ["▁a", "▁mag", "enta", "▁tri", "ang", "le", "</s>", "<pad>"]
    assert tokens[1][:7] == ["▁in", "▁the", "▁game", "▁,", "▁the", "▁red", "▁bat"]
    assert (read.colour_position.tolist(), read.noun_position.tolist()) == ([2, 5, 9], [5, 6, 11])
    assert read.silent[0].tolist() == [True, *[False] * 5, *[True] * (CONTEXT_TOKENS - 6)]


def test_positions_of_a_caption_by_hand():
    tokenizer = build_clip_tokenizer()
    read = read_captions([TRIANGLE, BAT], tokenizer)
    tokens = [tokenizer.convert_ids_to_tokens(row) for row in read.ids.tolist()]
    assert tokens[0][:8] == ["<|startoftext|>", "a</w>", "mag", "enta</w>", "tri", "ang", "le</w>", "<|endoftext|>"]
    assert tokens[1][:7] == ["<|startoftext|>", "in</w>", "the</w>", "game</w>", ",</w>", "the</w>", "red</w>"]
    assert tokens[1][7:14] == ["bat</w>", "and</w>", "cy", "an</w>", "plus</w>", "sign</w>", "<|endoftext|>"]
    assert read.caption.tolist() == [0, 1, 1]
    assert read.colour_position.tolist() == [3, 6, 10]
    assert read.noun_position.tolist() == [6, 7, 12]
    assert [SHAPES[shape] for shape in read.shape] == ["triangle", "plus sign", "plus sign"]
    assert [list(COLOURS)[colour] for colour in read.colour] == ["magenta", "red", "cyan"]
    assert read.place.tolist() == [0, 0, 1]
    speaking = [
        [token for token, silent in zip(*row, strict=True) if not silent]
        for row in zip(tokens, read.silent, strict=True)
    ]
    assert speaking[0] == ["<|startoftext|>", "mag", "enta</w>", "tri", "ang", "le</w>"]
    assert speaking[1] == ["<|startoftext|>", "red</w>", "bat</w>", "cy", "an</w>", "plus</w>", "sign</w>"]


def test_an_item_named_like_the_one_before_is_found_behind_it():
    scene = Scene("a red bat and a red bat", (Item("red", "cross", "bat"), Item("red", "cross", "bat")))
    assert read_captions([scene], build_clip_tokenizer()).noun_position.tolist() == [3, 7]


# ---------------------------------------------------------------------- encoders


def test_spread_is_measured_among_the_same_token_at_the_same_position():
    ids = torch.tensor([[5, 6], [5, 6], [6, 5]])
    states = torch.tensor([[[1.0], [9.0]], [[3.0], [9.0]], [[8.0], [70.0]]])
    every = torch.ones_like(ids, dtype=torch.bool)
    assert spread_of_equal_tokens(states, ids, every).item() == pytest.approx((1 + 1) / 6)  # 1 and 3 about their mean 2
    first = torch.tensor([[True, False]] * 3)
    assert spread_of_equal_tokens(states, ids, first).item() == pytest.approx(2 / 3)


def test_a_batch_finds_the_items_of_its_captions():
    read = read_captions([TRIANGLE, BAT, TRIANGLE], build_clip_tokenizer())
    rows, items = _Guarded(read, SMALL)._items(torch.tensor([1, 2, 1, 0]))
    assert rows.tolist() == [0, 0, 1, 2, 2, 3]
    assert items.tolist() == [1, 2, 3, 1, 2, 0]


def test_captions_of_the_same_items_are_no_contrast():
    other = Scene("a red cross", (Item("red", "cross"),))
    scenes = [TRIANGLE, other, TRIANGLE]
    tokenizer = build_clip_tokenizer()
    goal = _Free(read_captions(scenes, tokenizer), scenes, SMALL, tokenizer.eos_token_id)
    torch.manual_seed(0)
    loss, _ = goal(new_encoder(tokenizer, SMALL), torch.arange(3), np.random.default_rng(0))
    assert torch.isfinite(loss)
    _, measured = goal(new_encoder(tokenizer, SMALL), torch.tensor([0, 2]), np.random.default_rng(0))
    assert measured["found"] == 1.0  # nothing to be mistaken for


def test_guarded_training_silences_what_names_no_item_and_free_training_does_not():
    tokenizer = build_clip_tokenizer()
    scenes = sample_scenes(np.random.default_rng(0), 300)
    captions = read_captions(scenes, tokenizer)
    spread = {}
    for regime in ("guarded", "free"):
        encoder, curve = train_encoder(regime, captions, scenes, tokenizer, replace(SMALL, steps=60))
        assert curve[-1]["loss"] < 0.6 * curve[0]["loss"]
        assert not any(parameter.requires_grad for parameter in encoder.parameters())
        states = encoder(input_ids=captions.ids).last_hidden_state
        spread[regime] = spread_of_equal_tokens(states, captions.ids, captions.silent).item()
    assert spread["guarded"] < spread["free"] / 5


def test_a_bidirectional_encoder_is_t5s_and_what_stands_behind_a_token_changes_it():
    tokenizer = build_tokenizer("bidirectional")
    scenes = sample_scenes(np.random.default_rng(0), 300)
    captions = read_captions(scenes, tokenizer)
    encoder, curve = train_encoder("bidirectional", captions, scenes, tokenizer, replace(SMALL, steps=60))
    assert isinstance(encoder, T5EncoderModel)
    assert curve[-1]["loss"] < 0.6 * curve[0]["loss"]
    ids = captions.ids[:1].repeat(2, 1)
    ids[1, -1] = tokenizer.unk_token_id  # also padding is read: there is no mask
    states = encoder(input_ids=ids).last_hidden_state
    assert (states[0] - states[1]).abs().amax(-1).min() > 1e-4


def test_the_contrast_is_at_the_end_token():
    """What CLIP itself pools there is what the goal reads."""
    tokenizer = build_clip_tokenizer()
    scenes = [TRIANGLE, BAT]
    captions = read_captions(scenes, tokenizer)
    goal, encoder = _Free(captions, scenes, SMALL, tokenizer.eos_token_id), new_encoder(tokenizer, SMALL)
    read: list[torch.Tensor] = []
    goal.text.register_forward_pre_hook(lambda _module, inputs: read.append(inputs[0]))
    goal(encoder, torch.arange(2), np.random.default_rng(0))
    assert torch.equal(read[0], encoder(input_ids=captions.ids).pooler_output)


# ---------------------------------------------------------------------- pictures and noise


def test_objects_go_where_the_noise_is_brightest():
    noise = torch.zeros(2, 3, 16, 16)
    noise[0, :, :8, 8:], noise[0, 1, 8:, :8] = 2.0, 1.0  # above right, then below left
    noise[1, 0, 12, 12] = 3.0
    cells = cells_in_noise(torch.nn.functional.pixel_unshuffle(noise, 2))
    assert cells[0][:2] == [1, 2]
    assert cells[1][0] == 3
    assert sorted(cells[0]) == [0, 1, 2, 3]
    first = np.bincount([order[0] for order in cells_in_noise(torch.randn(4000, 12, 8, 8))], minlength=4)
    assert (abs(first - 1000) < 5 * np.sqrt(4000 * 3 / 16)).all()  # every cell as likely as any other


def test_latents_are_the_picture_without_loss():
    latents = latents_of([BAT], [[2, 1]])
    decoded = PixelLatents().decode(latents, return_dict=False)[0]
    picture = ((decoded[0] + 1) / 2).permute(1, 2, 0).numpy()
    assert is_exact(picture, BAT.items)
    assert torch.equal(PixelLatents().encode(decoded).latent_dist.mode(), latents)
    assert torch.equal(decoded, pixel_shuffle(latents, 2))


# ---------------------------------------------------------------------- the denoiser


def test_drawing_begins_without_signal():
    scheduler = new_scheduler()
    scheduler.set_timesteps(20)
    assert scheduler.alphas_cumprod[-1].item() == pytest.approx(0, abs=1e-6)
    assert scheduler.timesteps[0] == 999


def test_the_learning_rate_rises_and_falls():
    recipe = DenoiserRecipe(learning_rate=1.0, steps=100, rise_steps=10)
    rates = [learning_rate(step, recipe) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[50] == pytest.approx(0.51)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.02, abs=0.001)


def test_a_run_stopped_between_checkpoints_ends_where_an_uninterrupted_one_does(tmp_path, monkeypatch):
    monkeypatch.setattr("training.shapes.denoiser.CHECKPOINT_STEPS", 3)
    monkeypatch.setattr("training.shapes.denoiser.CURVE_STEPS", 2)
    recipe = DenoiserRecipe(channels=16, heads=2, batch=2, steps=8, captions=10)
    scenes = sample_scenes(np.random.default_rng(0), recipe.captions)
    states, empty = torch.randn(recipe.captions, 5, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(5, 8)

    def run(folder: Path, stop_after: int | None = None):
        folder.mkdir(exist_ok=True)
        torch.manual_seed(1)
        return train_denoiser(new_denoiser(recipe, 8), scenes, states, empty, recipe, folder, stop_after=stop_after)

    whole, progress = run(tmp_path / "whole")
    assert progress.step == 8
    run(tmp_path / "parts", 4)
    run(tmp_path / "parts", 7)
    (tmp_path / "parts" / "denoiser.aside").write_bytes(b"half a checkpoint")  # what a kill while writing leaves
    resumed, also = run(tmp_path / "parts")
    assert [point["loss"] for point in progress.curve] == [point["loss"] for point in also.curve]
    for (name, one), two in zip(whole.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, two), name


def test_the_command_keeps_its_memory_by_starting_again_once(monkeypatch):
    started = []
    monkeypatch.setattr(os, "execve", lambda *arguments: started.append(arguments))
    for name in command._MALLOC:
        monkeypatch.delenv(name, raising=False)
    command._keep_memory()
    ((_, arguments, environment),) = started
    assert arguments[1:3] == ["-m", "training.shapes.train"]
    monkeypatch.setattr(os, "environ", environment)
    command._keep_memory()
    assert len(started) == 1


# ---------------------------------------------------------------------- what ships


@pytest.mark.parametrize("regime", ["free", "bidirectional"])
def test_parts_are_shipped_as_a_folder_that_loads_with_a_card_that_says_what_it_measures(regime, tmp_path, monkeypatch):
    monkeypatch.setattr(shipping, "require_browser", lambda: "")
    drawn: list[str] = []
    monkeypatch.setattr(go.Figure, "write_image", lambda _figure, path, **_: drawn.append(Path(path).name))
    monkeypatch.setattr(shipping, "measure", partial(measure, n_scenes=8))
    monkeypatch.setattr("training.shapes.accept.sense_scenes", lambda: sense_scenes(seeds=1))
    torch.manual_seed(3)
    tokenizer: Any = build_tokenizer(regime)
    encoder = new_encoder(tokenizer, SMALL).eval()
    denoiser = new_denoiser(DenoiserRecipe(channels=16, heads=2), SMALL.width)
    curves = {
        "encoder": [{"step": 0, "loss": 1.0}],
        "denoiser": [{"step": 7, "loss": 0.5, "one_exact": 0.25, "two_exact": 0.0}],
    }
    folder = tmp_path / "shapes-tiny"
    shipping.ship(folder, tokenizer, encoder, denoiser, curves, {"regime": regime, "steps": 7, "cpu_seconds": 120})
    model = load_image(str(folder), device="cpu", dtype="float32")
    text = "a red disc and a cyan triangle"
    ids = tokenizer(text, padding="max_length", return_tensors="pt").input_ids
    halves = type(encoder)(encoder.config).eval()
    halves.load_state_dict({name: weight.half().float() for name, weight in encoder.state_dict().items()})
    with torch.no_grad():
        assert torch.equal(model.encode([text]).sequence, halves(ids).last_hidden_state)
    assert model.encoders == ("t5",) if regime == "bidirectional" else ("clip",)
    assert (model.default_steps, model.default_guidance) == (20, 1.0)
    assert pd.read_csv(folder / "learning_curve_denoiser.csv").to_dict("records") == curves["denoiser"]
    card = ModelCard.load(folder / "README.md")
    said = card.data.to_dict()
    assert (said["regime"], said["steps"], said["cpu_seconds"]) == (regime, 7, 120)
    assert said["parameters"] == encoder.num_parameters() + denoiser.num_parameters()
    shares, _ = measure(str(folder), n_scenes=8)
    exact = {share.what: share.n_right / share.n for share in shares}
    assert said["one_exact"] == round(exact["one object, exactly right"], 4)
    assert said["two_exact"] == round(exact["two objects, exactly right"], 4)
    assert as_table((shares, Seconds(0, 0))).split("\n\n")[0] in card.text
    assert drawn == ["learning_curve.png", "samples.png"]


# ---------------------------------------------------------------------- acceptance


def test_acceptance_asks_what_was_not_trained_on():
    rng = np.random.default_rng(0)
    scenes = different_scenes(rng, 200, 1, "unseen")
    assert len({scene.text for scene in scenes}) == 200
    trained = {scene.text for scene in sample_scenes(rng, 2000)}
    assert not trained & {scene.text for scene in scenes}
    kinds = sense_scenes(seeds=1)
    assert len(kinds) == 3 * len(SENSES)
    for noun, (plain, after_context, context) in SENSES.items():
        assert {scene.items[0].shape for scene in kinds[f"a {noun} is a {plain}"]} == {plain}
        assert {scene.items[0].shape for scene in kinds[f"after {context!r} a {noun} is a {after_context}"]} == {
            after_context
        }
        late = kinds[f"before {context!r} a {noun} is a {plain}"]
        assert all(scene.text.endswith(f"in the {context}") and scene.items[0].shape == plain for scene in late)


def test_the_table_has_intervals():
    table = as_table(([Share("two objects", 19, 20)], Seconds(1.234, 0.8)))
    assert "| two objects | 95.0% | 76.4% to 99.1% | 20 |" in table
    assert table.endswith("Sixteen pictures take 1.23 s here, 0.80 s of processor time.")
