"""Judges by name: CLIPScore, a vision-language model that is asked yes or no, and functions of the user's own."""

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch

from interp.errors import ArgumentError, RunError, UserError
from interp.models.tokens.chat import render_chat
from interp.named import import_own
from probes.t2i_flow.judges import Judge, Picture, PixelAnswers, Verdict
from probes.t2i_flow.settings import check_judge

CLIP_THRESHOLD = 26.0
"""A CLIPScore from which an item counts as visible when no --judge-threshold is given. No value is right for every model."""
ANSWER_THRESHOLD = 0.5
LEAST_SAID = 0.01
"""Probability of yes and no together below which their quotient says nothing."""
QUESTION = 'Does this figure show "{}"? Please answer yes or no.'
"""VQAScore's question (Lin et al. 2024)."""


def load_judge(name: str, threshold: float | None = None) -> Judge:
    """Returns the judge of that name: pixel, clipscore:MODEL, vlm:MODEL, or module:function of the user's own.

    `threshold` is the score from which a model's answer is a yes.
    Raises ArgumentError for a name that is none of these, or a function that cannot be imported.
    """
    check_judge(name)
    if name == "pixel":
        return PixelAnswers()
    kind, _, model = name.partition(":")
    if kind in ("clipscore", "vlm"):
        return load_clip_score(model, threshold) if kind == "clipscore" else load_vision_language(model, threshold)
    return _import(kind, model)


def _import(module: str, function: str) -> Judge:
    try:
        found: Callable[..., Any] = getattr(import_own(module), function)
    except (ImportError, AttributeError) as error:
        raise ArgumentError(
            f"The judge {module}:{function} cannot be imported ({error}): name a module on the Python path and a function in it."
        ) from error
    if not callable(found):
        raise ArgumentError(
            f"{module}:{function} cannot be called: a judge is a function of a picture and descriptions."
        )
    return cast(Judge, found)


class ClipScore:
    """max(100 · cos, 0) between picture and "a photo of DESCRIPTION" (Hessel et al. 2021): close to a bag of words."""

    def __init__(self, model: Any, processor: Any, threshold: float | None = None) -> None:
        """Takes a transformers CLIPModel and its processor."""
        self.model, self.processor = model, processor
        self.threshold = CLIP_THRESHOLD if threshold is None else threshold

    @torch.no_grad()
    def __call__(self, picture: Picture, descriptions: Sequence[str]) -> list[Verdict]:
        """Returns one verdict for each description, with its score."""
        inputs = self.processor(
            text=[f"a photo of {text}" for text in descriptions],
            images=_bytes(picture),
            return_tensors="pt",
            padding=True,
        )
        read = self.model(**inputs.to(self.model.device))
        scores = (100 * torch.cosine_similarity(read.image_embeds, read.text_embeds)).clamp(min=0)
        return [_scored(score, self.threshold) for score in scores.tolist()]


class VisionLanguage:
    """The probability of Yes against No, of a vision-language model that is shown the picture and asked (VQAScore)."""

    def __init__(self, model: Any, processor: Any, threshold: float | None = None) -> None:
        """Takes a transformers image-text-to-text model and its processor.

        Raises RunError when the processor has no chat template, or Yes and No begin with the same token.
        """
        self.model, self.processor = model, processor
        self.threshold = ANSWER_THRESHOLD if threshold is None else threshold
        tokenizer = processor.tokenizer
        self.answers = [_first_tokens(tokenizer, word) for word in ("yes", "no")]
        if set(self.answers[0]) & set(self.answers[1]):
            raise RunError(
                "This vision-language model spells yes and no with the same first token: choose another judge."
            )
        if getattr(processor, "chat_template", None) is None:
            raise RunError("This vision-language model has no chat template: choose an instruction-tuned one as judge.")

    @torch.no_grad()
    def __call__(self, picture: Picture, descriptions: Sequence[str]) -> list[Verdict]:
        """Returns one verdict for each description: p(yes) / (p(yes) + p(no)) for the first token of the answer.

        Raises ValueError for a model that begins its answer with neither, such as one that thinks first.
        """
        return [self._answer(picture, description) for description in descriptions]

    def _answer(self, picture: Picture, description: str) -> Verdict:
        content = [{"type": "image"}, {"type": "text", "text": QUESTION.format(description)}]
        try:
            prompt = render_chat(self.processor, [{"role": "user", "content": content}], "the judge")
        except UserError as error:
            raise RunError("The judge's chat template cannot write the question: choose another judge.") from error
        inputs = self.processor(text=[prompt], images=[_bytes(picture)], return_tensors="pt").to(self.model.device)
        p = self.model(**inputs).logits[0, -1].float().softmax(dim=-1)
        yes, no = (float(p[ids].sum()) for ids in self.answers)
        if yes + no < LEAST_SAID:
            raise ValueError(f"the judge says neither yes nor no (together {yes + no:.4f} of its first token)")
        return _scored(yes / (yes + no), self.threshold)


def _scored(score: float, threshold: float) -> Verdict:
    """Raises ValueError for a score that is no number, as half precision makes them: it is not a no."""
    if not math.isfinite(score):
        raise ValueError(f"the judge's score is {score}")
    return Verdict(score >= threshold, score=score)


def _first_tokens(tokenizer: Any, word: str) -> list[int]:
    """The first tokens of the ways to write a word at the beginning of an answer."""
    spellings = [text for form in (word, word.capitalize()) for text in (form, f" {form}")]
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in spellings]
    return sorted({next(id for id in some if tokenizer.decode([id]).strip()) for some in ids})


def _bytes(picture: Picture) -> np.ndarray:
    return (picture * 255).round().clip(0, 255).astype(np.uint8)


def load_clip_score(name: str, threshold: float | None) -> ClipScore:
    """Returns CLIPScore with the CLIP model of that Hugging Face id or folder.

    Raises RunError when it cannot be loaded.
    """
    from transformers import CLIPModel, CLIPProcessor

    return ClipScore(_load(CLIPModel, name).eval(), _load(CLIPProcessor, name), threshold)


def load_vision_language(name: str, threshold: float | None) -> VisionLanguage:
    """Returns a judge around the vision-language model of that Hugging Face id or folder.

    Raises RunError when it cannot be loaded.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = _load(AutoModelForImageTextToText, name, dtype="auto", device_map="auto")
    return VisionLanguage(model.eval(), _load(AutoProcessor, name), threshold)


def _load(kind: Any, name: str, **options: Any) -> Any:
    try:
        return kind.from_pretrained(name, trust_remote_code=False, **options)
    except (OSError, ValueError, ImportError, KeyError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise RunError(
            f"The judge {name} cannot be loaded ({first}): give a Hugging Face id that you can reach, or a folder with the model."
        ) from error
