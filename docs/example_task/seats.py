"""A task of one's own: guests and what they brought, of which one is asked for."""

from probes.context_recall.draft import Draft
from probes.context_recall.tasks.task import task


@task({"guests": 4}, {"guests": 8})
def seats(draft: Draft, guests: int = 4) -> None:
    """Guests by number, and what each brought. Chance is 1 / guests."""
    numbers, gifts = draft.keys(guests), draft.values(guests)
    draft.put("The guests brought presents.")
    for number, gift in zip(numbers, gifts, strict=True):
        draft.pair("\nThe guest of the{key} brought a{value}.", number, gift)
    chosen = draft.choose(guests, 1)[0]
    draft.ask("\nThe guest of the{key} brought a", [chosen], words={"key": numbers[chosen]})
