"""When enough needles have been measured: the top K heads no longer change when needles are resampled."""

import math

from interp.tables import Tables
from probes.retrieval_heads.reliability import stability
from probes.retrieval_heads.totals import detection_totals

FIRST_NEEDLES = 4
STEP_NEEDLES = 4


def needles_until_stable(
    measured: Tables, order: list[str], definition: str, k: int, confidence: float, only_passed: bool, seed: int
) -> int:
    """Returns how many needles of the order are needed, as far as is known: the next checkpoint that is not yet reached.

    Checkpoints are 4, 8, 12, … needles; at each, detection stops if at least `confidence` of the bootstrap draws over the
    needles so far keep at least nine tenths of the top k. Only the needles before a checkpoint count there, so the answer
    does not depend on how a run was interrupted.
    """
    done = set(measured["samples"]["needle_id"])
    totals = detection_totals(measured, only_passed=only_passed).get(definition)
    checkpoints = math.ceil(max(0, len(order) - FIRST_NEEDLES) / STEP_NEEDLES) + 1
    for step in range(checkpoints):
        needed = min(FIRST_NEEDLES + step * STEP_NEEDLES, len(order))
        if not done.issuperset(order[:needed]):
            return needed
        if totals is not None:
            counted = [id for id in order[:needed] if id in totals.needle_ids]
            if counted == totals.needle_ids[: len(counted)] and stability(totals, len(counted), k, seed) >= confidence:
                return needed
    return len(order)
