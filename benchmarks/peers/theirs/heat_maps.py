"""daam's trace of one picture after another, told how many tokens and image positions the model has."""

import os
import tempfile

os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp()  # daam makes a folder there

from daam import trace
from pictures import draw, load_pipeline


def traced(inputs):
    """Returns a function that draws a prompt and returns daam's trace of it.

    daam takes pictures of 512 and 768 pixels and 77 tokens for granted.
    """
    pipeline = load_pipeline(inputs)
    side = len(inputs["noise"][0][0])

    def run(prompt):
        with trace(pipeline) as found:
            found.latent_hw = side * side
            for hooker in found.module:
                hooker.context_size, hooker.latent_hw = pipeline.tokenizer.model_max_length, side * side
            draw(pipeline, inputs, prompt)
        return found

    run(inputs["prompts"][0])
    return run
