"""daam: the heat map of a word in its own definition, divided by the steps it is the sum of."""

from contract import answer
from heat_maps import traced


def prepare(inputs):
    """Loads the pipeline and returns the work to be timed."""
    run = traced(inputs)

    def map(prompt, word):
        found = run(prompt).compute_global_heat_map().compute_word_heat_map(word)
        return (found.value / inputs["steps"]).flatten().tolist()

    return lambda: [map(prompt, word) for prompt, word in zip(inputs["prompts"], inputs["words"], strict=True)]


answer(prepare)
