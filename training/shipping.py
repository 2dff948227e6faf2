"""From trained weights to a folder that ships: weights, tokenizer, learning curve, and a card with what was measured."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import torch
from huggingface_hub import ModelCard, ModelCardData
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from figures.style import PALETTE, styled
from interp.experiments.export import require_browser
from training.corpus import cut_windows
from training.loss import mean_nats
from training.recipe import Recipe

SLICE_ARTICLES = 10
"""The first held-out articles, whose loss is on the card too: a test measures it again from the files that ship."""


def ship(
    folder: Path,
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    recipe: Recipe,
    seen: Mapping[str, float],
    curve: Sequence[Mapping[str, float]],
    held_out: Sequence[str],
) -> None:
    """Writes the folder. What is on the card is measured with the half-precision weights as they are read back.

    `seen` says what training saw and cost; it goes onto the card as it is.
    """
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    table = pd.DataFrame(curve)
    table.to_csv(folder / "learning_curve.csv", index=False, float_format="%.5g")
    stored = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    measured = {
        **held_out_loss(stored, tokenizer, held_out, recipe, "held_out"),
        **held_out_loss(stored, tokenizer, held_out[:SLICE_ARTICLES], recipe, "slice"),
    }
    card(folder.name, stored, recipe, {**seen, **measured}).save(folder / "README.md")
    require_browser()
    plot_curve(table, folder.name).write_image(folder / "learning_curve.png", scale=2)


def held_out_loss(
    model: Any, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], recipe: Recipe, name: str
) -> dict[str, float]:
    """Returns surprisal and perplexity per token and per word (what spaces separate), and how many there were of each."""
    windows = cut_windows(tokenizer, texts, recipe.window_tokens)
    nats, n_tokens = mean_nats(model, windows, recipe.batch_tokens)
    n_words = sum(len(text.split()) for text in texts)
    return {
        f"{name}_articles": len(texts),
        f"{name}_tokens": n_tokens,
        f"{name}_words": n_words,
        f"{name}_nats_per_token": round(nats, 5),
        f"{name}_perplexity_per_token": round(math.exp(nats), 3),
        f"{name}_perplexity_per_word": round(math.exp(nats * n_tokens / n_words), 2),
    }


def plot_curve(curve: pd.DataFrame, name: str) -> go.Figure:
    """Returns the loss on the batches trained on and on held-out windows against the tokens seen."""
    figure = go.Figure()
    for column, label, colour in (
        ("train_nats", "training batches", PALETTE[0]),
        ("held_out_nats", "held-out windows", PALETTE[1]),
    ):
        figure.add_scatter(x=curve["tokens"], y=curve[column], name=label, line_color=colour)
    figure.update_xaxes(title="tokens seen")
    figure.update_yaxes(title="loss (nats per token)")
    return styled(
        figure, title=f"Learning curve of {name}", caption="Mean loss since the point before, and on held-out text."
    )


KINDS = {
    "interp_lstm": "An LSTM",
    "llama": "A transformer (Llama type)",
    "gemma3_text": "A transformer (Gemma 3 type: query heads share keys, every other layer sees a window)",
}
"""What a card calls an architecture, by its `model_type`."""


FALLS_BACK = """ **This one has another tokenizer**: as many tokens of characters, as in Llama 2's, with bytes for rare ones; so \
its batches hold other windows, and its nats per token are not comparable with theirs."""


def card(name: str, model: Any, recipe: Recipe, facts: Mapping[str, Any]) -> ModelCard:
    """Returns the card: what was measured as data on top, in sentences below."""
    config = model.config
    kind = KINDS[config.model_type]
    data = ModelCardData(
        language="en",
        license="apache-2.0",
        pipeline_tag="text-generation",
        parameters=model.num_parameters(),
        **facts,
    )
    text = f"""
# {name}

{kind} of {config.num_hidden_layers} layer{"s" * (config.num_hidden_layers > 1)} and {model.num_parameters():,} parameters, \
trained from nothing on news articles of 2017 (the toolkit's prose asset) to be compared with the other models of its \
family: `lstm-news`, `transformer-news-1`, `transformer-news-2`, `transformer-news-4`. They share the tokenizer \
(byte-level BPE, {config.vocab_size} tokens, trained on the same articles), the batches in the same order, the optimiser and \
its schedule, the width of the embeddings ({config.hidden_size}, tied) and, within 0.5 %, the number of parameters.\
{FALLS_BACK if name.startswith("fallback") else ""}

| | |
|---|---|
| trained on | {facts["train_articles"]:,} articles, {facts["train_tokens"]:,} tokens, {recipe.epochs} times |
| tokens seen | {facts["tokens_seen"]:,} in {facts["steps"]:,} steps of at most {recipe.batch_tokens:,} |
| context in training | up to {recipe.window_tokens} tokens of one article, never two |
| processor time | {facts["cpu_seconds"] / 60:.0f} minutes of one core, shared with other work |
| held out | {facts["held_out_articles"]} articles, {facts["held_out_tokens"]:,} tokens, {facts["held_out_words"]:,} words |
| perplexity per token | {facts["held_out_perplexity_per_token"]:.2f} |
| perplexity per word | {facts["held_out_perplexity_per_word"]:.1f} |

Perplexities are those of the float16 weights in this folder, computed in float32, from at most {recipe.window_tokens} \
tokens of context. A text begins with `<|endoftext|>`, which the tokenizer adds.

![learning curve](learning_curve.png)

The model writes no usable text and knows nothing of the world. It shows what {facts["tokens_seen"] / 1e6:.1f} million tokens \
of news teach an architecture of this size about words that come back, and no more; the lists of the verbatim-memory \
experiment are not among what it was trained on. `docs/models_trained_here.md` has the comparison, `training/` the script.
"""
    return ModelCard(f"---\n{data.to_yaml()}\n---\n{text}")
