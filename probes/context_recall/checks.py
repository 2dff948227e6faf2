"""What holds of every sample, a user's own included: spans, answers, and questions that do not give the answer away."""

from interp.errors import ArgumentError
from probes.context_recall.draft import Ids, Sample


def check_sample(sample: Sample, name: str) -> None:
    """Raises ArgumentError for a sample that does not hold what it says: spans, answers, questions that give the answer away."""
    if not sample.questions:
        raise ArgumentError(f"The task {name} has no question: end it with draft.ask(…).")
    values = [sample.ids[slice(*pair.value)] for pair in sample.pairs]
    for question in sample.questions:
        answers = [*question.right, *question.wrong]
        if not question.ids or not question.wrong or not all(answers):
            raise ArgumentError(
                f"A question of {name} needs a text and at least one wrong value: write two pairs or more."
            )
        if question.is_label:
            continue
        if {values[number] for number in question.pairs} != set(question.right) or not set(question.wrong) <= set(
            values
        ):
            raise ArgumentError(
                f"The spans of {name} do not hold the values that its questions name: bind what was put down."
            )
        if any(_holds(question.ids, answer) for answer in question.right):
            raise ArgumentError(f"A question of {name} holds its own answer: leave the value out of the question.")
        firsts = [{answer[0] for answer in part} for part in (question.right, question.wrong)]
        for one in answers:
            if any(one != other and other[: len(one)] == one for other in answers):
                raise ArgumentError(
                    f"In {name} the value of tokens {list(one)} begins another value, so they cannot be told apart: use "
                    "values of which none begins another."
                )
        if firsts[0] & firsts[1]:
            raise ArgumentError(
                f"In {name} a right and a wrong value begin with the same token, and conditions are compared by first tokens: use values "
                "whose first tokens differ."
            )


def _holds(ids: Ids, part: Ids) -> bool:
    return any(ids[start : start + len(part)] == part for start in range(len(ids) - len(part) + 1))
