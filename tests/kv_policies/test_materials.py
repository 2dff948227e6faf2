"""Texts in every kind of tokenizer: prompts as long as asked, and scored tokens that are the words they shall be."""

import pytest
import torch

from interp.errors import ArgumentError
from interp.stimuli.word_classes import token_classes
from probes.kv_policies import materials
from probes.kv_policies.materials import build_text, needle_words
from probes.kv_policies.settings import Settings
from tests.tiny_models import tiny
from tests.tiny_tokenizers import KINDS, of_kind

NEWS = tuple(
    f"The {noun} was seen near the old {place} on Monday. Nobody said who had left it there, and the police asked again."
    for noun in ("hammer", "river", "basket", "engine", "mirror", "turtle")
    for place in ("harbour", "chapel", "library")
)
WORDS = (
    *(" ".join(part) for part in zip(*materials._words(), strict=False)),
    "Question: What is the secret code? Answer: Mary wrote",
)
SETTINGS = Settings(prompt_tokens=400, list_words=4, prose_tokens=6)


@pytest.fixture(autouse=True)
def few_articles(monkeypatch):
    monkeypatch.setattr(materials, "news_articles", lambda: NEWS * 4)


def model_of(kind, family="llama", **changes):
    tokenizer = of_kind(kind, (*NEWS, *WORDS))
    changes = changes or {"num_hidden_layers": 1}
    return tiny(family, tokenizer=tokenizer, vocab_size=len(tokenizer), max_position_embeddings=1024, **changes)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_what_they_say_in_every_kind_of_tokenizer(kind):
    model = model_of(kind)

    def written(ids):
        return model.tokenizer.decode(list(ids)).strip().lower()  # some know no capitals

    texts = {
        (material, scope): build_text(SETTINGS, model, material, 1, scope)
        for material, scope in [
            ("prose", "context_only"),
            ("lists", "context_only"),
            ("needles", "context_only"),
            ("needles", "context_and_question"),
        ]
    }
    for text in texts.values():
        assert len(text.prompt) == 400
        assert min(text.scored) >= 1
        assert max(text.scored) < len(text.continuation)
    *_, answer = needle_words(0, 1)
    for scope in ("context_only", "context_and_question"):
        text = texts["needles", scope]
        assert written(text.continuation[place] for place in text.scored) == answer
        assert answer in written(text.prompt[slice(*text.source)])
        assert written(text.prompt[slice(*text.cue)]).startswith("the secret code of the")
        assert ("question" in written(text.prompt)) == (scope == "context_and_question")
    whole = [text.prompt + text.continuation for text in texts.values() if text.material == "needles"]
    assert len(whole[0]) > len(whole[1]) - 100
    again = texts["lists", "context_only"]
    words = written(again.continuation[place] for place in again.scored)
    assert len(words.replace(" ", "").split(",")) == 4
    assert words.split(",")[0].strip() in written(again.prompt[slice(*again.source)])


def test_the_same_number_is_the_same_text_and_others_are_others():
    model = model_of("byte-level")
    assert build_text(SETTINGS, model, "lists", 2, "context_only") == build_text(
        SETTINGS, model, "lists", 2, "context_only"
    )
    assert len({needle_words(0, number)[0] for number in range(40)}) == 40, (
        "needles that are answered and found on differ"
    )


@pytest.mark.parametrize("material", ["lists", "needles"])
def test_a_prompt_without_room_is_refused(material):
    model = model_of("byte-level")
    with pytest.raises(ArgumentError, match="raise --prompt-tokens"):
        build_text(Settings(prompt_tokens=20), model, material, 0, "context_only")


def test_classes_of_tokens():
    assert token_classes([" the", " harbour", "42", ".", "\n", " B2"]) == [
        "function", "content", "digits", "delimiter", "delimiter", "digits",
    ]  # fmt: skip


def test_a_token_of_part_of_a_letter_is_no_delimiter():
    """A byte of "猫" (U+FFFD), the vowel sign of "कि", and the tone of a decomposed "ế" are of letters; ½ and Ⅷ are numbers."""
    assert token_classes(["\ufffd", " \ufffd\ufffd", "\u093f", "\u0301", " 猫", "½", " Ⅷ", "।", " —"]) == [
        *["content"] * 5, "digits", "digits", "delimiter", "delimiter",
    ]  # fmt: skip


def test_roles_find_the_head_that_copies(monkeypatch):
    from probes.kv_policies import heads

    model = model_of("byte-level")
    text = build_text(SETTINGS, model, "needles", 3, "context_only")
    n_scored = len(text.scored)

    class Looked:
        def __enter__(self):
            return self

        def __exit__(self, *_): ...

        def __getitem__(self, name):
            looked = torch.zeros(1, 1, 4, n_scored, 1, dtype=torch.long)
            looked[0, 0, 2, :, 0] = torch.arange(text.source[0], text.source[0] + n_scored)
            looked[0, 0, 3, :1, 0] = text.source[0]
            return looked

    monkeypatch.setattr(model, "record", lambda *_: Looked())
    scores = heads._copying(SETTINGS, model, 3).set_index("head")["score"]
    assert scores[2] == 1.0
    assert scores[3] == pytest.approx(1 / n_scored)
    assert scores[0] == 0.0
