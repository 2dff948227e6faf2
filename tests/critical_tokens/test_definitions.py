"""What counts as critical: the paper's rule by hand and from the end, cliffs and pivots on planted tokens."""

import numpy as np
import pytest

from probes.critical_tokens.audit import curve_outcomes, random_chain
from probes.critical_tokens.definitions import (
    Thresholds,
    backward_scan,
    confirm,
    critical_by_rule,
    discoveries,
    evidence,
    needed_right,
    screen,
    settled,
)
from probes.critical_tokens.scores import chain_with_drop

T = Thresholds()


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        ([40, 30, 0, 0, 0], 2),
        ([40, 0, 30, 0, 0], 3),  # a zero with 5% behind it does not count
        ([40, 2, 0, 3, 0], 2),  # 3 of 64 is below 5%
        ([40, 2, 0, 4, 0], 4),  # 4 of 64 is not
        ([0, 0, 0], 0),
        ([40, 30, 2], None),
        ([40, 30, 20], None),
    ],
)
def test_the_papers_rule_by_hand(right: list[int], expected: int | None) -> None:
    assert critical_by_rule(right, 64) == expected


@pytest.mark.parametrize(("n", "needed"), [(64, 4), (60, 3), (61, 4), (20, 1), (100, 5)])
def test_five_per_cent_of_n(n: int, needed: int) -> None:
    assert needed_right(n) == needed


def test_the_scan_from_the_end_finds_what_the_rule_finds_on_the_same_draws() -> None:
    generator = np.random.default_rng(0)
    nothing = 0
    for _ in range(60):
        chain = random_chain(generator, 15)
        outcomes = curve_outcomes(chain, 64, generator).astype(bool)
        outcomes[-1] = False  # the trajectory itself is wrong
        looked: set[int] = set()

        def draw(kept: int, draws: slice, outcomes: np.ndarray = outcomes, looked: set[int] = looked) -> np.ndarray:
            looked.add(kept)
            return outcomes[kept, draws]

        scan = backward_scan(15, 64, draw)
        expected = critical_by_rule(outcomes[1:].sum(axis=1).tolist(), 64)
        assert scan.critical == expected
        nothing += expected is None
        if expected is not None:
            assert scan.set_first <= expected <= scan.set_last
    assert nothing < 30


def test_the_first_token_can_be_the_critical_one() -> None:
    scan = backward_scan(4, 64, lambda kept, draws: np.zeros(draws.stop - draws.start, dtype=bool))
    assert (scan.critical, scan.set_first) == (0, 0)
    assert sorted(scan.right) == [1, 2, 3, 4]


def test_the_set_holds_the_true_crossing() -> None:
    """V falls from 0.6 to 0.02 at token 8 and stays: the token lies in the set in 95% of chains or more, and sets are short."""
    generator = np.random.default_rng(1)
    inside, lengths = [], []
    chain = chain_with_drop(16, 8, 0.3, 0.58, 0.6)
    for _ in range(120):
        outcomes = curve_outcomes(chain, 64, generator).astype(bool)
        scan = backward_scan(16, 64, lambda kept, draws, outcomes=outcomes: outcomes[kept, draws])
        inside.append(scan.set_first <= 8 <= scan.set_last)
        lengths.append(scan.set_last - scan.set_first + 1)
    assert np.mean(inside) >= 0.95
    assert min(lengths) <= 2


def test_alive_positions_cost_few_draws() -> None:
    asked: list[int] = []

    def draw(kept: int, draws: slice) -> np.ndarray:
        asked.append(draws.stop - draws.start)
        return np.full(draws.stop - draws.start, kept <= 3)

    scan = backward_scan(5, 64, draw)
    assert (scan.critical, scan.set_first, scan.set_last) == (3, 3, 3)
    assert sum(asked) == 64 + 8 + 8  # position 4 in full; position 3 a block, and again for the lower end


def test_screening_by_hand() -> None:
    p = np.array([0.5, 0.95, 0.3, 0.2])
    value = np.array([0.6, 0.45, 0.1, 0.3, 0.21])
    assert screen(p, value, T) == [0, 2]  # 1 is certified whatever its drop, 3 changes V by 0.09 only
    assert screen(p, value, T, most=1) == [2]


def test_evidence_by_hand() -> None:
    without, after = np.array([True] * 9 + [False]), np.array([False] * 8 + [True] * 2)
    one = evidence(3, 0.5, without, after, T, n_tests=1)
    assert (one.without, one.after) == (0.9, 0.2)
    assert one.drop == pytest.approx(0.35)
    assert one.drop_low < 0.35 < one.drop_high
    assert one.log_e_drop > 0 > one.log_e_rise


def test_easy_tokens_cost_few_pairs() -> None:
    clear = np.ones(24, dtype=int)
    assert settled(0.5, clear, T, 1)
    assert not settled(0.5, clear[:4], T, 1)
    assert settled(0.7, np.zeros(60, dtype=int), T, 1)  # a change of 0.2 at p = 0.7 would be 2/3 of the pairs


def planted(sign: int, seed: int) -> list[tuple[int, int, tuple[int, ...]]]:
    """A drop or a rise of 0.4 at token 5; as many null tokens are tried."""
    generator = np.random.default_rng(seed)
    chance = {5: (0.9, 0.1) if sign == 1 else (0.1, 0.9), 2: (0.5, 0.5), 7: (0.3, 0.3)}
    p = np.where(np.isin(np.arange(9), list(chance)), 0.5, 0.97)

    def pairs(tokens: list[int], draws: slice) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        n = draws.stop - draws.start
        return {t: (generator.random(n) < chance[t][0], generator.random(n) < chance[t][1]) for t in tokens}

    arms = confirm(p, list(chance), pairs, T, 64)  # type: ignore[arg-type]
    tested = [evidence(token, p[token], *arms[token], T, 3) for token in chance]
    both = discoveries(tested, p, T, both_signs=True)
    drops = discoveries(tested, p, T, both_signs=False)
    assert [one for one in both if one.sign == 1] == drops or len(drops) >= sum(one.sign == 1 for one in both)
    return [(one.evidence.token, one.sign, one.set_tokens) for one in both]


@pytest.mark.parametrize("sign", [1, -1])
def test_planted_drops_and_rises_are_found_with_their_sign(sign: int) -> None:
    results = [planted(sign, seed) for seed in range(20)]
    hits = [found for found in results if found]
    assert len(hits) >= 18
    assert all(found[0][:2] == (5, sign) and 5 in found[0][2] for found in hits)
