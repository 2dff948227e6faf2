"""Problems with exact checking: what is asked, how an answer is read out of a response, where a response first goes wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["right", "wrong", "unextracted"]
"""`unextracted`: no answer could be read out of the response. It is not right, and it is counted apart from wrong ones."""


@dataclass(frozen=True)
class Problem:
    """One problem. `solution` is the one right response in the format of the examples, "" where none is known."""

    id: str
    level: str
    prompt: str
    """Everything the model reads first, worked examples included."""
    question: str
    """The last part of the prompt: what is asked, without the examples."""
    solution: str
    gold: str
    extract: Callable[[str], str | None]
    """Reads the answer out of a response; None where there is none."""
    same: Callable[[str, str], bool] = str.__eq__
    """Whether an extracted answer and the gold one are the same."""
    grade: Callable[[str], bool | None] | None = None
    """A user's own grader of whole responses, in place of `extract` and `same`; None from it: no answer could be read."""
    check_steps: Callable[[str], list[bool]] | None = None
    """Whether each written step is right given the step before it."""

    def outcome(self, response: str) -> Outcome:
        """Returns whether a response is right, wrong, or holds no answer."""
        if self.grade is not None:
            told = self.grade(response)
            return "unextracted" if told is None else "right" if told else "wrong"
        answer = self.extract(response)
        if answer is None:
            return "unextracted"
        return "right" if self.same(answer, self.gold) else "wrong"

    def first_error(self, response: str) -> int | None:
        """Returns the character at which a response leaves the one right solution; None where it does not or none is known."""
        if not self.solution or response.startswith(self.solution.rstrip()):
            return None
        pairs = zip(response, self.solution, strict=False)
        return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(response), len(self.solution)))
