"""Judges: exact on rendered truth, anybody's function, models, and failures that are counted."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor

from interp.errors import ArgumentError, RunError
from probes.t2i_flow.judge_models import ClipScore, VisionLanguage, load_clip_score, load_judge
from probes.t2i_flow.judges import PixelAnswers, Verdict, ask, described, judge_check, judge_truth
from probes.t2i_flow.scenes import Item, render
from tests.t2i_flow.planted import judge as planted_judge
from tests.tiny_pipelines import N_CLIP, clip_tokenizer

PICTURE = np.zeros((16, 16, 3), dtype=np.float32)


def test_the_pixel_judge_reads_words_and_tells_colour_shape_and_pairing_apart():
    picture = render([Item("red", "disc"), Item("blue", "plus sign")], [0, 3])
    asked = ["red disc", "Blue  plus sign", "blue disc", "green disc", "red triangle", "green triangle"]
    found = [(one.visible, one.colour_right, one.shape_right) for one in PixelAnswers()(picture, asked)]
    assert found == [
        (True, True, True),
        (True, True, True),
        (False, True, True),
        (False, False, True),
        (False, True, False),
        (False, False, False),
    ]


@pytest.mark.parametrize("text", ["disc", "purple disc", "red hexagon", "red bat", ""])
def test_what_the_pixel_judge_cannot_look_for_is_refused(text):
    with pytest.raises(ArgumentError, match="cannot look for"):
        described(text)


def test_the_pixel_judge_is_never_wrong_on_rendered_truth_and_a_wrong_judge_is_found_out():
    truth = pd.DataFrame(judge_truth(PixelAnswers(), 60, 0))
    there = truth[truth["truth"] == 1]
    assert (there[["visible", "colour_right", "shape_right"]] == 1).all(axis=None)
    assert truth["truth"].sum() > 80
    assert (truth["truth"] == 0).sum() > 100
    none = pd.DataFrame(columns=["prompt_id", "part", "variant", "source_item", "kept_positions", "seed", "failure"])
    exact = judge_check("pixel", truth, none).set_index("check")
    assert exact["errors"].sum() == 0
    assert exact.loc["rendered items not seen", "ci_high"] < 0.05

    def yes(picture, descriptions):
        return [True] * len(descriptions)

    wrong = judge_check("yes", pd.DataFrame(judge_truth(yes, 60, 0)), none).set_index("check")
    assert wrong.loc["absent items seen", "error_rate"] == 1
    assert wrong.loc["rendered items not seen", "error_rate"] == 0


def test_pictures_of_another_size_are_failures_of_the_pixel_judge():
    answers = ask(PixelAnswers(), np.zeros((32, 32, 3), dtype=np.float32), ["red disc"])
    assert answers == (None, "ValueError: the pixel judge reads pictures of 16 × 16 pixels, not (32, 32)")


@pytest.mark.parametrize(
    ("said", "failure"),
    [
        ([True], "1 answers to 2 questions"),
        ([True, 1.0], "TypeError: a judge answers with True, False or a Verdict, not 1.0"),
        (None, "TypeError: 'NoneType' object is not iterable"),
        ([True, Verdict(0.3)], "TypeError: a judge answers with True, False or a Verdict, not Verdict(visible=0.3, "),  # type: ignore[arg-type]
        ([True, Verdict("no")], "TypeError: a judge answers with True, False or a Verdict, not Verdict(visible='no', "),  # type: ignore[arg-type]
        (
            [True, Verdict(True, 0.5)],
            "TypeError: a judge answers with True, False or a Verdict, not Verdict(visible=True, ",
        ),  # type: ignore[arg-type]
        (
            [True, Verdict(True, score="high")],
            "TypeError: a judge answers with True, False or a Verdict, not Verdict(visible=True, ",
        ),  # type: ignore[arg-type]
    ],
)
def test_an_answer_that_is_none_is_a_failure(said, failure):
    answers = ask(lambda picture, descriptions: said, PICTURE, ["a", "b"])
    assert answers.verdicts is None
    assert answers.failure.startswith(failure)


def test_what_a_judge_does_to_its_picture_is_not_seen_by_others():
    def scaling(picture, descriptions):
        picture *= 255
        return [True]

    picture = np.ones((4, 4, 3), dtype=np.float32)
    assert ask(scaling, picture, ["a"]).verdicts
    assert (picture == 1).all()


def test_a_judge_that_raises_has_failed_and_others_are_taken_at_their_word():
    def broken(picture, descriptions):
        raise ZeroDivisionError("by zero")

    assert ask(broken, PICTURE, ["a"]) == (None, "ZeroDivisionError: by zero")
    said = ask(lambda picture, descriptions: [np.bool_(True), Verdict(False, score=0.1)], PICTURE, ["a", "b"])
    assert [verdict.visible for verdict in said.verdicts or ()] == [True, False]


def test_a_function_of_ones_own_is_found_by_name_or_refused():
    assert load_judge("tests.t2i_flow.planted:judge") is planted_judge
    for name in ("tests.t2i_flow.absent:judge", "tests.t2i_flow.planted:absent"):
        with pytest.raises(ArgumentError, match="cannot be imported"):
            load_judge(name)
    with pytest.raises(ArgumentError, match="cannot be called"):
        load_judge("tests.t2i_flow.planted:CELL")


def test_failures_are_counted_by_picture_not_by_question():
    rows = [
        {
            "prompt_id": "p",
            "part": "in_item",
            "variant": name,
            "source_item": "",
            "kept_positions": "",
            "seed": 0,
            "failure": failed,
        }
        for name, failed in (("full", ""), ("full", ""), ("clean", "no"), ("clean", "no"), ("item", ""))
    ]
    truth = pd.DataFrame(columns=["picture_id", "visible", "truth", "failure"])
    found = judge_check("any", truth, pd.DataFrame(rows)).set_index("check")
    assert found.loc["failed on drawn pictures", ["n", "errors"]].tolist() == [3, 1]
    assert found.loc["absent items seen", "n"] == 0
    assert np.isnan(found.loc["absent items seen", "error_rate"])


# ---------------------------------------------------------------------- models as judges


def tiny_clip() -> tuple[CLIPModel, CLIPProcessor]:
    text = {
        "vocab_size": len(clip_tokenizer()), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "max_position_embeddings": N_CLIP, "eos_token_id": 1, "bos_token_id": 0, "pad_token_id": 1,
    }  # fmt: skip
    vision = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16, "patch_size": 8,
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).eval()
    images = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    return model, CLIPProcessor(images, clip_tokenizer())


def test_clip_score_is_a_hundred_times_the_cosine_and_the_threshold_decides():
    model, processor = tiny_clip()
    picture = np.linspace(0, 1, 16 * 16 * 3, dtype=np.float32).reshape(16, 16, 3)
    texts = ["red", "blue"]
    verdicts = ClipScore(model, processor)(picture, texts)
    image = processor(images=(picture * 255).round().astype(np.uint8), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        seen = model.visual_projection(model.vision_model(image).pooler_output)[0]
        for text, verdict in zip(texts, verdicts, strict=True):
            ids = torch.tensor([clip_tokenizer()(f"a photo of {text}")["input_ids"]])
            read = model.text_projection(model.text_model(ids).pooler_output)[0]
            cosine = torch.cosine_similarity(seen, read, dim=0).item()
            assert verdict.score == pytest.approx(max(100 * cosine, 0), abs=1e-3)
    scores = [verdict.score for verdict in verdicts]
    assert scores[0] != scores[1]
    between = ClipScore(model, processor, threshold=sum(scores) / 2)(picture, texts)
    assert [verdict.visible for verdict in between] == [score > sum(scores) / 2 for score in scores]


class Spoken:
    """A vision-language model and processor that say yes with a probability that grows with the picture's brightness."""

    device = torch.device("cpu")
    chat_template = "any"
    vocabulary = ("yes", "no", "Yes", "No", "▁", "n", "y")

    def __init__(self) -> None:
        self.tokenizer = self
        self.prompts: list[str] = []

    def __call__(self, *texts, text=None, images=None, return_tensors=None, add_special_tokens=None, light=None):
        if texts:  # as a tokenizer
            word = texts[0]
            return {
                "input_ids": [4, self.vocabulary.index(word[1:])]
                if word.startswith(" ")
                else [self.vocabulary.index(word)]
            }
        if light is not None:  # as the model
            logits = torch.full((1, 2, len(self.vocabulary)), -5.0)
            logits[0, -1, 0], logits[0, -1, 3] = 4 * light, 2.0
            return SimpleNamespace(logits=logits)
        self.prompts.append(text[0])
        inputs = {"light": float(images[0].mean()) / 255}
        return type("Inputs", (dict,), {"to": lambda self, device: self})(inputs)

    def decode(self, ids):
        return self.vocabulary[ids[0]].replace("▁", " ")

    def apply_chat_template(self, messages, *, chat_template, tokenize, add_generation_prompt):
        assert chat_template == self.chat_template
        assert (tokenize, add_generation_prompt) == (False, True)
        return messages[0]["content"][1]["text"]


def test_a_vision_language_model_is_asked_yes_or_no():
    spoken = Spoken()
    judge = VisionLanguage(spoken, spoken)
    assert judge.answers == [[0, 2], [1, 3]]
    dark, light = (judge(np.full((8, 8, 3), value, dtype=np.float32), ["a cat"])[0] for value in (0.1, 0.9))
    assert spoken.prompts == ['Does this figure show "a cat"? Please answer yes or no.'] * 2
    yes, no = np.exp([4 * 230 / 255, 2.0]) + np.exp(-5.0)
    assert light.score == pytest.approx(yes / (yes + no), abs=1e-3)
    assert (dark.visible, light.visible) == (False, True)
    assert (
        VisionLanguage(spoken, spoken, threshold=0.99)(np.ones((8, 8, 3), dtype=np.float32), ["a cat"])[0].visible
        is False
    )


class Overflowing(Spoken):
    """Whatever the picture, the logits of yes and no are the given ones, and all others 0."""

    def __init__(self, of_yes_and_no: float) -> None:
        super().__init__()
        self.logits = torch.zeros(1, 2, len(self.vocabulary))
        self.logits[0, -1, :4] = of_yes_and_no

    def __call__(self, *texts, light=None, **options):
        return super().__call__(*texts, **options) if light is None else SimpleNamespace(logits=self.logits)


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_a_failure_and_not_a_no(score):
    """Half precision overflows: neither model has then said that an item is not there."""
    model, processor = tiny_clip()
    model.visual_projection.weight.data.fill_(score)
    assert ask(ClipScore(model, processor), PICTURE, ["red"]) == (None, "ValueError: the judge's score is nan")
    loud = Overflowing(score)
    assert ask(VisionLanguage(loud, loud), PICTURE, ["red"]) == (None, "ValueError: the judge's score is nan")


def test_a_model_that_begins_with_neither_yes_nor_no_has_not_answered():
    thinking = Overflowing(-30.0)
    answers = ask(VisionLanguage(thinking, thinking), PICTURE, ["red"])
    assert answers == (None, "ValueError: the judge says neither yes nor no (together 0.0000 of its first token)")


def test_vision_language_models_that_cannot_be_asked_are_refused():
    silent = Spoken()
    silent.chat_template = None  # type: ignore[assignment]
    with pytest.raises(RunError, match="has no chat template"):
        VisionLanguage(silent, silent)
    spoken = Spoken()
    judge = VisionLanguage(spoken, spoken)
    spoken.chat_template = "{{ messages | random }}"
    with pytest.raises(RunError, match=r"cannot write the question: choose another judge\.$"):
        judge(np.ones((8, 8, 3), dtype=np.float32), ["a cat"])
    same = Spoken()
    same.vocabulary = ("x",)  # type: ignore[assignment]
    same.decode = lambda ids: "x"  # type: ignore[method-assign]
    same.__class__ = type("Same", (Spoken,), {"__call__": lambda self, *a, **k: {"input_ids": [0]}})
    with pytest.raises(RunError, match="spells yes and no with the same first token"):
        VisionLanguage(same, same)


def test_a_judge_that_cannot_be_loaded_is_said_so(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="cannot be loaded"):
        load_clip_score(str(tmp_path / "empty"), None)
