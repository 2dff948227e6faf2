"""minicons: surprisal of every token but the first of each text."""

from contract import answer
from minicons.scorer import IncrementalLMScorer


def prepare(inputs):
    """Loads the model and returns the work to be timed."""
    scorer = IncrementalLMScorer(inputs["model"], "cpu")
    scorer.token_score("Warm up.", surprisal=True)
    return lambda: [[nats for _, nats in scorer.token_score(text, surprisal=True)[0]][1:] for text in inputs["texts"]]


answer(prepare)
