"""Repeats of the published protocol are drawn from one pool, and two of them share no rollout."""

import numpy as np

from benchmarks.reliability import CHUNK, CHUNKS, disjoint_pairs


def test_two_repeats_share_no_rollout() -> None:
    """The token after which no rollout is right is the third in the first half of the pool and the second in the other."""
    early, late = [CHUNK, CHUNK, 0, 0, 0], [CHUNK, 0, 0, 0, 0]
    pool = np.array([early] * (CHUNKS // 2) + [late] * (CHUNKS // 2))
    pairs = disjoint_pairs(pool, CHUNK)
    assert len(pairs) == CHUNKS * (CHUNKS - 1) // 2
    same = [a == b for a, b in pairs]
    assert sum(same) == 2 * 6  # pairs within a half
    halves = disjoint_pairs(pool, CHUNK * CHUNKS // 2)
    assert len(halves) == 35  # two ways to deal eight chunks into halves, without order
    assert halves[0][0] != halves[0][1]  # the first four chunks against the others
    assert all(a == b for a, b in disjoint_pairs(np.array([early] * CHUNKS), CHUNK))
