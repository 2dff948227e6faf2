"""pts: its search over a trajectory whose values are known, so that nothing is sampled."""

import os
import sys

sys.path.append(os.environ["PEER_SOURCE"])

from pts.core import PivotalTokenSearcher


class Characters:
    """Tokens of one character each."""

    def decode(self, ids, **_):
        """The text of some tokens."""
        return "".join(chr(97 + id) for id in ids)


class Searcher(PivotalTokenSearcher):
    """The search with the model taken away: V after n tokens is given."""

    def __init__(self, values):
        self.tokenizer, self.prob_threshold, self.values = Characters(), 0.2, values

    def estimate_success_probability(self, query, prefix="", **_):
        """V after as many tokens as the prefix has."""
        return self.values[len(prefix)]


def pivotal_changes(values):
    """The change of V at every token that the search isolates and finds large enough; 0 elsewhere."""
    searcher, changes, place = Searcher(values), [], 0
    for segment in searcher.subdivide_sequence("", list(range(len(values) - 1))):
        before, after = values[place], values[place + len(segment)]
        pivotal = len(segment) == 1 and abs(after - before) >= searcher.prob_threshold
        changes += [after - before] if pivotal else [0.0] * len(segment)
        place += len(segment)
    return changes
