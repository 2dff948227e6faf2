"""attention-map-diffusers: AttentionCapture of a pipeline, means over steps and the layers of one resolution."""

from attention_map_diffusers import AttentionCapture
from contract import answer
from pictures import draw, load_pipeline, mean_by_size


def prepare(inputs):
    """Loads the pipeline and returns the work to be timed."""
    pipeline = load_pipeline(inputs)

    def maps(prompt):
        with AttentionCapture(pipeline, timesteps="all", heads="mean") as capture:
            draw(pipeline, inputs, prompt)
        found = capture.compute()
        return mean_by_size([record.data[-1, 0].T for record in found])  # the last row is the branch with the text

    draw(pipeline, inputs, inputs["prompts"][0])
    return lambda: [maps(prompt) for prompt in inputs["prompts"]]


answer(prepare)
