"""What some families of text-to-image models do and others do not: hidden padding, an instruction, learned words, negative prompts."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from interp.errors import ArgumentError
from interp.models.identity import ModelIdentity
from interp.models.image.model import ImageModel
from tests.pictures import FAMILIES, GUIDED, HIDDEN, TEXT, as_prompt, draw, each, furthest
from tests.tiny_pipelines import BUILDERS, tiny_image

# ---------------------------------------------------------------------- hidden padding and texts that are changed on their way


@pytest.mark.parametrize("family", ["pixart_sigma", "sana"])
def test_texts_in_lower_case_are_read_and_the_places_are_those_of_the_text_as_given(family):
    model = tiny_image(family)
    text = " A RED TRIANGLE, İ and a Blue circle "  # İ is two characters in lower case
    assert torch.equal(model.encode([text]).sequence, model.encode([text.lower()]).sequence)
    told = model.tokens(text)
    for phrase in ("RED", "TRIANGLE", "Blue circle"):
        places = model.spans(text, phrase)
        assert text[told[places[0]].char_start : told[places[-1]].char_end].strip() == phrase
        letters = "".join(told[place].token for place in places).replace("▁", " ").strip()
        assert letters == phrase.lower()


def test_sanas_instruction_is_no_part_of_a_text():
    model = tiny_image("sana")
    told = model.tokens(TEXT)
    assert [token.role for token in told[:3]] == ["bos", "bos", "text"]
    assert "".join(token.token for token in told if token.role == "text").replace("▁", " ").strip() == TEXT
    assert not any(token.role == "eos" for token in told)
    with pytest.raises(ArgumentError, match="'ruddy' is not in"):
        model.spans(TEXT, "ruddy")
    with pytest.raises(ArgumentError, match="'prompt' is not in"):  # a word of the instruction
        model.spans(TEXT, "prompt")


@pytest.mark.parametrize("family", each(HIDDEN))
def test_padding_that_is_hidden_has_no_say_and_what_is_put_there_brings_its_own_mask(family):
    model = tiny_image(family)
    text, other = model.encode(["a red triangle"]), model.encode([TEXT])
    n = int(text.shown.sum())
    assert n < int(other.shown.sum())
    noisy = dataclasses.replace(text, sequence=text.sequence + 9 * ~text.shown[..., None])
    plain = draw(model, text)
    assert np.array_equal(draw(model, noisy), plain)
    behind = text.paste([n], other)  # where the text had padding there is a word now
    assert behind.shown.sum() == n + 1
    assert furthest(draw(model, behind), plain) > 1e-6
    assert np.array_equal(draw(model, behind.drop([n])), plain)
    with pytest.raises(ArgumentError, match="Every token would be dropped"):
        text.drop(range(n))


# ---------------------------------------------------------------------- learned words and negative prompts


@pytest.mark.parametrize("family", ["sd", "sd_t5", "sdxl", "flux"])
def test_a_learned_word_of_several_vectors_is_told_as_its_encoders_read_it(family):
    with torch.random.fork_rng():
        pipeline = BUILDERS[family]()
        for name in [name for name in pipeline.components if name.startswith("tokenizer")]:
            pipeline.register_modules(**{name: copy.deepcopy(getattr(pipeline, name))})
            getattr(pipeline, name).add_tokens(["<cat>", "<cat>_1"])
            encoder = getattr(pipeline, name.replace("tokenizer", "text_encoder"))
            encoder.resize_token_embeddings(len(getattr(pipeline, name)))
    model = ImageModel(
        type(tiny_image(family)._family)(pipeline), ModelIdentity("learned", "tests", "0", "float32"), {}
    )
    text = "a <cat> and red"
    model.encode([text])  # compares what its encoders read with `tokens`
    told = model.tokens(text)
    cat, red = (
        [told[place].token.strip("▁").removesuffix("</w>") for place in model.spans(text, word)]
        for word in ("<cat>", "red")
    )
    assert list(filter(None, cat)) == ["<cat>", "<cat>_1"]
    assert "".join(red) == "red"


@pytest.mark.parametrize("family", each(FAMILIES))
def test_a_negative_prompt_is_that_of_the_pipeline(family):
    model, away = tiny_image(family), "a blue Triangle"
    text = model.encode([TEXT])
    if family not in GUIDED:
        with pytest.raises(
            ArgumentError, match=f"tiny-{family} has no second branch of guidance, which a negative prompt is"
        ):
            draw(model, text, negative=away)
        return
    if family == "flux2_klein":  # which takes no negative prompt in words
        wanted = as_prompt(model, 2.0, negative_prompt_embeds=model.encode([away]).sequence)
    else:
        wanted = as_prompt(model, 2.0, negative_prompt=away)
    plain = draw(model, text)
    assert np.array_equal(draw(model, text, negative=away), wanted)
    assert furthest(wanted, plain) > 1e-6
    if family not in ("sdxl", "qwen_image"):  # whose own other branches are zeros and a blank
        assert np.array_equal(draw(model, text, negative=""), plain)
    with pytest.raises(ArgumentError, match=r"has one above a guidance of [01] only, which a negative prompt is for"):
        draw(model, text, negative=away, guidance=model._family.unguided)
    with pytest.raises(ArgumentError, match="tokens long for the encoder"):
        draw(model, text, negative="red " * 1025)
