"""The inputs that both sides read: texts, prompts with needles, a repeated text, windows, as tokens in one JSON file."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from interp.models.dictionary.dictionary import Dictionary, shipped_dictionaries
from interp.models.dictionary.windows import cut_windows, tokenize
from interp.models.language.model import LanguageModel
from interp.models.loading.converted import converted_asset
from interp.models.loading.image import load_image
from interp.models.loading.names import TRAINED
from interp.stimuli.haystack import build_haystack
from interp.stimuli.prose import news_articles
from probes.critical_tokens.audit import random_chain
from probes.critical_tokens.scores import chain_with_drop
from probes.retrieval_heads.needles import read_needles
from probes.retrieval_heads.stimuli import Sample, build_frame, build_samples

MODEL = "smollm2-135m"
N_TEXTS, TEXT_CHARACTERS = 24, 280
N_NEEDLES, PROMPT_TOKENS, DEPTHS, N_ANSWER = 3, 384, (0.3, 0.8), 20
PROMPTS = {
    "a red disc and a blue triangle": "triangle",
    "a green square": "green",
    "a yellow cross and a red square": "yellow",
}
"""A prompt, and the word of it whose heat map is drawn."""
IMAGE_MODEL, STEPS, GUIDANCE, SEED = "shapes-t2i", 10, 3.0, 5
KV_PROMPT_TOKENS, KV_BUDGET = 340, 85
"""How many tokens of a prompt are read in full, and how many keys are then kept: a number that 1 - ratio gives exactly."""
CHAIN_TOKENS, N_CHAINS = 20, 200
REPEATED_TOKENS, WINDOW_TOKENS, N_WINDOWS, SKIP = 120, 128, 8, 4


def build_inputs(model: LanguageModel) -> dict[str, Any]:
    """Returns everything that any of the tools is given."""
    return {**_of_texts(model), **_of_pictures(), **_of_trajectories()}


def _of_pictures() -> dict[str, Any]:
    return {
        "image_model": str(TRAINED / IMAGE_MODEL),
        "prompts": list(PROMPTS),
        "words": list(PROMPTS.values()),
        "noise": load_image(IMAGE_MODEL).noise([SEED]).tolist(),
        "steps": STEPS,
        "guidance": GUIDANCE,
    }


def _of_trajectories() -> dict[str, Any]:
    """V after every number of kept tokens: trajectories with one drop, at every token, and random ones."""
    generator = np.random.default_rng(0)
    dropping = [chain_with_drop(CHAIN_TOKENS, at, 0.5, 0.3, 0.6) for at in range(CHAIN_TOKENS - 1)]
    return {
        "chains_one_drop": [chain.values.tolist() for chain in dropping],
        "chains_random": [random_chain(generator, CHAIN_TOKENS).values.tolist() for _ in range(N_CHAINS)],
    }


def _of_texts(model: LanguageModel) -> dict[str, Any]:
    tokenizer = model.tokenizer
    articles = news_articles()
    texts = [" ".join(article.split())[:TEXT_CHARACTERS].rsplit(" ", 1)[0] for article in articles[:N_TEXTS]]
    ids = [tokenizer(text)["input_ids"] for text in texts]
    half = tokenizer(" ".join(articles[N_TEXTS].split()))["input_ids"][: REPEATED_TOKENS // 2]
    folder = shipped_dictionaries(MODEL)[1]
    dictionary = Dictionary.from_folder(folder)
    windows = cut_windows(tokenize(tokenizer, articles[:N_WINDOWS]), WINDOW_TOKENS, shortest=WINDOW_TOKENS)
    return {
        "model": str(converted_asset(MODEL)),
        "texts": texts,
        "ids": ids,
        "samples": [as_json(sample) for sample in samples_of(model)],
        "kv_prompt_tokens": KV_PROMPT_TOKENS,
        "kv_budget": KV_BUDGET,
        "stop_ids": [tokenizer.eos_token_id],
        "repeated_ids": [*half, *half],
        "dictionary": str(folder),
        "hook": dictionary.hook_name,
        "layer": dictionary.layer,
        "windows": windows.ids[:N_WINDOWS].tolist(),
        "skip": SKIP,
    }


def samples_of(model: LanguageModel) -> list[Sample]:
    """Returns a few prompts, two depths of each needle."""
    found: list[Sample] = []
    for needle in read_needles()[:N_NEEDLES]:
        frame = build_frame(model.tokenizer, needle, "auto", "auto", MODEL)
        haystack = build_haystack(model.tokenizer, news_articles(), PROMPT_TOKENS, seed=0, key=needle.id)
        cells = [(PROMPT_TOKENS, depth) for depth in DEPTHS]
        found += build_samples(model.tokenizer, needle, haystack, frame, cells)
    return found


def as_json(sample: Sample) -> dict[str, Any]:
    """Returns what a tool needs of a prompt: its tokens, and the spans of needle and answer."""
    return {
        "ids": list(sample.ids),
        "needle": [sample.needle_start, sample.needle_end],
        "gold": [sample.gold_start, sample.gold_end],
        "answer": sample.needle.real_needle,
        "n_answer": N_ANSWER,
    }


def write_inputs(model: LanguageModel, folder: Path) -> Path:
    """Writes inputs.json and returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / "inputs.json"
    place.write_text(json.dumps(build_inputs(model)), encoding="utf-8")
    return place
