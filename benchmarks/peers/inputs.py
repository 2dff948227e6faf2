"""The inputs that both sides read: texts, prompts with needles, a repeated text, windows, as tokens in one JSON file."""

import json
from pathlib import Path
from typing import Any

from interp.models.dictionary.dictionary import Dictionary, shipped_dictionaries
from interp.models.dictionary.windows import cut_windows, tokenize
from interp.models.language.model import LanguageModel
from interp.models.loading.language import converted_asset
from interp.stimuli.haystack import build_haystack
from interp.stimuli.prose import news_articles
from probes.retrieval_heads.needles import read_needles
from probes.retrieval_heads.stimuli import Sample, build_frame, build_samples

MODEL = "smollm2-135m"
N_TEXTS, TEXT_CHARACTERS = 24, 280
N_NEEDLES, PROMPT_TOKENS, DEPTHS, N_ANSWER = 3, 384, (0.3, 0.8), 20
REPEATED_TOKENS, WINDOW_TOKENS, N_WINDOWS, SKIP = 120, 128, 8, 4


def build_inputs(model: LanguageModel) -> dict[str, Any]:
    """Returns everything that any of the tools is given."""
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
