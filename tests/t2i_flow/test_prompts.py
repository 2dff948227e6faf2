"""Prompts of the user's and of scenes: what is read, what is refused in one sentence, what a position stands for."""

import json
from pathlib import Path

import pytest

from interp.errors import ArgumentError
from interp.models.tokens.token_spans import Token, read_tokens
from probes.t2i_flow.experiment import T2IFlow
from probes.t2i_flow.prompts import (
    Prompt,
    PromptItem,
    floor_positions,
    item_positions,
    items_alone,
    read_prompts,
    roles,
    words,
)
from probes.t2i_flow.scenes import GROUPS, SENSES, item_named, sample_prompts
from probes.t2i_flow.variants import removal_variants
from tests.tiny_pipelines import N_CLIP, clip_tokenizer, t5_tokenizer, tiny_image


def written(folder: Path, *lines: object) -> Path:
    path = folder / "prompts.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_prompts_are_read_with_all_their_fields(tmp_path):
    bat = {"phrase": "bat", "occurrence": 1, "looks": "an animal", "leaks": ["a club"], "alone": "the bat"}
    path = written(
        tmp_path,
        {"text": "a bat and a bat", "items": [bat], "group": "animals"},
        "",
        {"text": "a cat", "items": ["cat"]},
    )
    first, second = read_prompts(path)
    assert first == Prompt(
        "p0001", "a bat and a bat", (PromptItem("bat", 1, "an animal", ("a club",), "the bat"),), "animals"
    )
    assert second == Prompt("p0003", "a cat", (PromptItem("cat"),), "prompts")
    assert [(q.item_id, q.asked, q.description) for q in first.questions] == [
        ("bat#1", "own", "an animal"),
        ("bat#1", "leak", "a club"),
    ]
    assert (second.items[0].alone_text, first.items[0].alone_text) == ("a cat", "the bat")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "line 1: This is not JSON: write"),
        ([1], "line 1: A prompt is an object with text and items"),
        ({"items": ["cat"]}, 'A prompt needs "text"'),
        ({"text": "a cat", "items": []}, 'A prompt needs "items"'),
        ({"text": "a cat", "itms": ["cat"]}, "A prompt has no field itms. Did you mean items?"),
        ({"text": "a cat", "items": [{"phrse": "cat"}]}, "An item has no field phrse. Did you mean phrase?"),
        ({"text": "a cat", "items": [{"looks": "cat"}]}, 'An item needs "phrase"'),
        ({"text": "a cat", "items": [{"phrase": "cat", "leaks": "dog"}]}, '"leaks" is a list'),
        ({"text": "a cat", "items": [{"phrase": "cat", "occurrence": True}]}, '"occurrence" is a whole number'),
        (
            {"text": "a yellow cat", "items": ["yelow cat"]},
            "'yelow cat' is not in 'a yellow cat'. Did you mean yellow cat?",
        ),
        ({"text": "a cat and a cat", "items": ["cat"]}, "say which with occurrence, from 0 to 1"),
        ({"text": "a cat", "items": [{"phrase": "cat", "occurrence": 1}]}, "there is no occurrence 1"),
        ({"text": "a red cat", "items": ["red cat", "cat"]}, "share characters"),
        ({"text": "a cat", "items": [{"phrase": "cat", "alone": "a dog"}]}, "'cat' is not in 'a dog'"),
        ({"text": "a cat", "items": [{"phrase": "cat", "looks": ["x", "y"]}]}, '"looks" is text, not ["x", "y"]'),
        ({"text": "a cat", "items": [{"phrase": "cat", "alone": 3}]}, '"alone" is text, not 3'),
        ({"text": "a cat", "items": ["cat"], "group": ["x"]}, '"group" is text, not ["x"]'),
        ({"text": "a cat", "items": [{"phrase": "cat", "leaks": [" "]}]}, '"leaks" is a list of descriptions'),
        ({"text": "a cat", "items": [3]}, "An item is an object with phrase and occurrence, not 3"),
    ],
)
def test_prompts_that_cannot_be_meant_are_refused_in_a_sentence(tmp_path, line, sentence):
    with pytest.raises(ArgumentError) as refused:
        read_prompts(written(tmp_path, line))
    assert sentence in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_a_field_that_is_null_is_one_that_is_not_there(tmp_path):
    given = {"phrase": "cat", "occurrence": None, "looks": None, "leaks": None, "alone": None}
    named = read_prompts(written(tmp_path, {"text": "a cat", "items": [given], "group": None}))
    assert named == read_prompts(written(tmp_path, {"text": "a cat", "items": ["cat"]}))


def test_files_without_prompts_are_refused(tmp_path):
    with pytest.raises(ArgumentError, match="holds no prompt"):
        read_prompts(written(tmp_path, ""))
    with pytest.raises(ArgumentError, match="cannot be read as text"):
        read_prompts(tmp_path / "absent.jsonl")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"judge": "pixels"}, "There is no judge pixels: use pixel, clipscore:MODEL"),
        ({"judge": "vlm:"}, "There is no judge vlm:"),
        ({"parts": ()}, "--parts needs at least one of in_item"),
        ({"parts": ("repair", "in_item")}, "--parts repair needs in_item and inter_item too"),
        ({"parts": ("attention",)}, "--parts attention needs inter_item too"),
        ({"visible_share": 0.0}, "--visible-share must be above 0 and at most 1, not 0.0"),
        ({"attention_scale": -1.0}, "--attention-scale must be at least 0, not -1.0: 0 hides"),
        ({"steps": 0}, "--steps must be at least 1"),
        ({"seeds": 0}, "--seeds must be at least 1"),
        ({"attention_prompts": 0}, "--attention-prompts must be at least 1"),
        ({"judge_check": -1}, "--judge-check must be at least 0"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings, sentence):
    with pytest.raises(ArgumentError) as refused:
        T2IFlow(**settings)
    assert sentence in str(refused.value)


def test_the_pixel_judge_is_asked_for_nothing_it_cannot_see(tmp_path):
    from interp.models.identity import ModelFacts, ModelIdentity

    facts = ModelFacts(ModelIdentity("any", "any", "0", "float32"), "StableDiffusionPipeline", None, None)
    T2IFlow().check_model(facts)
    own = T2IFlow(prompts=written(tmp_path, {"text": "a cat", "items": ["cat"]}))
    with pytest.raises(ArgumentError, match="The pixel judge cannot look for 'cat'"):
        own.check_model(facts)


def test_an_item_alone_is_drawn_once_whatever_prompts_it_is_in():
    first = Prompt("p0", "a red disc and a bat", (PromptItem("red disc", leaks=("blue disc",)), PromptItem("bat")))
    second = Prompt("p1", "a bat , a red disc", (PromptItem("bat"), PromptItem("red disc", leaks=("green disc",))))
    alone = items_alone([first, second])
    assert [(prompt.text, prompt.items[0].leaks) for prompt in alone] == [("a red disc", ()), ("a bat", ())]


def test_two_things_that_are_asked_of_one_text_are_two_items_alone():
    """Another sense of the word, and another part of the text: each is asked for by itself, and counts its own tokens."""
    items = [
        PromptItem("bat", looks="an animal"),
        PromptItem("bat", looks="a club"),
        PromptItem("red disc", alone="a red disc"),
        PromptItem("disc", alone="a red disc"),
        PromptItem("bat", looks="a club", leaks=("an animal",)),
    ]
    alone = items_alone([Prompt(f"p{index}", item.alone_text, (item,)) for index, item in enumerate(items)])
    asked = [(prompt.id, prompt.text, prompt.items[0].phrase, prompt.questions[0].description) for prompt in alone]
    assert asked == [
        ("alone a bat", "a bat", "bat", "an animal"),
        ("alone a bat #2", "a bat", "bat", "a club"),
        ("alone a red disc", "a red disc", "red disc", "red disc"),
        ("alone a red disc #2", "a red disc", "disc", "disc"),
    ]


def test_redundant_tokens_are_taken_from_the_item_that_they_were_found_in():
    """Of "red circle" the first two tokens are redundant; "triangle", which is alone in a text of the same words, has its own."""
    model = tiny_image("sd")
    text = "a red triangle"
    whole, part = PromptItem("red triangle", alone=text), PromptItem("triangle", alone=text)
    prompt = Prompt("p", "a blue triangle", (part,))
    assert removal_variants(model, prompt, {whole.alone_key: (0,)}) == []
    (removal,) = removal_variants(model, prompt, {part.alone_key: (0,)})
    assert removal.positions == model.spans(prompt.text, "triangle")[:1]


@pytest.mark.parametrize("family", ["sd", "flux", "sd3"])
def test_an_item_that_its_own_text_spells_otherwise_is_refused_before_anything_is_drawn(family, tmp_path):
    """T5 has other tokens for "Red circle" than for "red circle", so the vectors of one cannot be put in place of the other's."""
    model, line = tiny_image(family), {"text": "le Red circle", "items": ["red circle"]}
    settings = T2IFlow(prompts=written(tmp_path, line), judge="x:y")
    if family == "sd":
        settings.check_loaded(model)
        return
    with pytest.raises(
        ArgumentError, match=r"'red circle' is 6 tokens of the encoder t5 in 'le Red circle' and 3 in .*\"alone\""
    ):
        settings.check_loaded(model)
    alone = [{"phrase": "red circle", "alone": "a Red circle"}]
    T2IFlow(prompts=written(tmp_path, line | {"items": alone}), judge="x:y").check_loaded(model)


def test_scene_prompts_come_in_turns_with_the_sense_as_the_leak():
    prompts = sample_prompts(30, seed=0)
    assert prompts == sample_prompts(30, seed=0) != sample_prompts(30, seed=1)
    assert len({prompt.text for prompt in prompts}) == 30
    assert {prompt.group for prompt in prompts} == set(GROUPS)
    for prompt in prompts:
        for item in prompt.items:
            colour, noun = item.phrase.split(maxsplit=1)
            if noun in SENSES:
                context = SENSES[noun][2]
                before = prompt.text.startswith(f"in the {context} ,")
                assert before == (prompt.group == "context_before")
                assert item.looks == " ".join(item_named(colour, noun).drawn)
                assert item.leaks == (" ".join(item_named(colour, noun, context).drawn),)
            else:
                assert item.looks == item.phrase
                assert [leak.split(maxsplit=1)[1] for leak in item.leaks] == ([noun] if prompt.group == "plain" else [])


# ---------------------------------------------------------------------- roles


PROMPT = Prompt("p", "le blue triangle and the red circle", (PromptItem("blue triangle"), PromptItem("red circle")))


def clip(text: str) -> list[Token]:
    return read_tokens(text, clip_tokenizer(), "clip", 0, N_CLIP + 4)


def test_every_clip_position_has_its_role():
    named = [
        (token.token, role) for token, role in zip(clip(PROMPT.text), roles(PROMPT, clip(PROMPT.text)), strict=True)
    ]
    assert named == [
        ("<|startoftext|>", "bos"),
        ("le</w>", "other_words"),
        ("blue</w>", "first_words"),
        ("tri", "last_word"),
        ("ang", "last_word"),
        ("le</w>", "last_token"),
        ("an", "other_words"),
        ("d</w>", "other_words"),
        ("t", "article"),
        ("h", "article"),
        ("e</w>", "article"),
        ("red</w>", "first_words"),
        ("circle</w>", "last_token"),
        ("<|endoftext|>", "eos"),
        ("<|endoftext|>", "pad"),
        ("<|endoftext|>", "pad"),
    ]
    assert item_positions(PROMPT, clip(PROMPT.text)) == {"blue triangle": (2, 3, 4, 5), "red circle": (11, 12)}
    assert floor_positions(PROMPT, clip(PROMPT.text)) == {
        "bos": (0,),
        "eos": (13,),
        "pad": (14, 15),
        "article": (8, 9, 10),
        "other_words": (1, 6, 7),
    }


def test_two_blocks_have_an_item_twice_and_each_its_last_token():
    tokens = clip(PROMPT.text)
    tokens += read_tokens(PROMPT.text, t5_tokenizer(), "t5", len(tokens), 20)
    items = item_positions(PROMPT, tokens)["red circle"]
    named = dict(zip((token.position for token in tokens), roles(PROMPT, tokens), strict=True))
    spelled = [(tokens[position].encoder, tokens[position].token, named[position]) for position in items]
    assert spelled == [
        ("clip", "red</w>", "first_words"),
        ("clip", "circle</w>", "last_token"),
        ("t5", "▁red", "first_words"),
        ("t5", "▁cir", "last_word"),
        ("t5", "cle", "last_token"),
    ]
    assert "bos" not in {named[token.position] for token in tokens if token.encoder == "t5"}


def test_words_have_all_their_tokens_and_punctuation_stands_alone():
    prompt = Prompt("p", "a red circle, blue", (PromptItem("red circle"),))
    found = [(word.text, word.role, len(word.positions)) for word in words(prompt, clip(prompt.text))]
    assert found == [
        ("a", "article", 1),
        ("red", "item", 1),
        ("circle", "item", 1),
        (",", "other_words", 1),
        ("blue", "other_words", 1),
        ("[bos]", "bos", 1),
        ("[eos]", "eos", 1),
        ("[pad]", "pad", 9),
    ]


@pytest.mark.parametrize(
    ("text", "phrase", "expected"),
    [
        ("the Dog's red", "Dog", [("the", "article"), ("Dog", "item"), ("'s", "other_words"), ("red", "other_words")]),
        (
            "a blue-eyed cat",
            "blue",
            [("a", "article"), ("blue", "item"), ("-eyed", "other_words"), ("cat", "other_words")],
        ),
        ("a t-shirt", "shirt", [("a", "article"), ("t-", "other_words"), ("shirt", "item")]),
        ("a t-shirt", "t-shirt", [("a", "article"), ("t-shirt", "item")]),
        ("红狗和猫", "狗", [("红", "other_words"), ("狗", "item"), ("和猫", "other_words")]),
        ("लाल बिल्ली", "बिल्ली", [("लाल", "other_words"), ("बिल्ली", "item")]),
    ],
)
def test_an_item_is_cut_out_of_a_larger_word_and_no_more_than_it(text, phrase, expected):
    prompt = Prompt("p", text, (PromptItem(phrase),))
    tokens = read_tokens(text, clip_tokenizer(), "clip", 0, 80)
    found = [(word.text, word.role) for word in words(prompt, tokens) if not word.text.startswith("[")]
    assert found == expected
