"""daam: its raw heat maps of the largest resolution, as means over steps, layers and heads."""

from contract import answer
from heat_maps import traced
from pictures import mean_by_size


def prepare(inputs):
    """Loads the pipeline and returns the work to be timed."""
    run = traced(inputs)

    def maps(prompt):
        found = [map.flatten(1) / inputs["steps"] for (factor, *_), map in run(prompt).all_heat_maps if factor == 1]
        return mean_by_size(found)

    return lambda: [maps(prompt) for prompt in inputs["prompts"]]


answer(prepare)
