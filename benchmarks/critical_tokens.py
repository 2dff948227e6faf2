"""What shared branches and bets save: `python -m benchmarks critical_tokens`.

On the same wrong trajectories, with the same decoding loop:
  script    the paper's rule from the end on: independent rollouts in blocks, until enough are right or 64 are made;
  paper     this toolkit: the same from the end on, on shared branches, with a confidence set;
  cliff     this toolkit: curve of V, screening, fresh pairs, e-BH;
  obvious   the published protocol: 64 independent rollouts after every token.
All four estimate; the shared draws are held against the independent ones by a two-sample test at every fifth position, and
what each way names is stored beside what it cost. Then the curve of V is drawn with more and more shared rollouts.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import chi2, fisher_exact

from benchmarks.tables import Results, compare, grow, results
from interp.errors import RunError
from interp.models.language.model import LanguageModel
from interp.models.loading.language import load
from probes.critical_tokens.definitions import (
    BLOCK,
    Scan,
    Thresholds,
    backward_scan,
    confirm,
    critical_by_rule,
    discoveries,
    evidence,
    needed_right,
    screen,
)
from probes.critical_tokens.experiment import CriticalTokens
from probes.critical_tokens.explorer import Explorer, Pool
from probes.critical_tokens.problems import find_problem
from probes.critical_tokens.responses import respond, setting_of

NAME, MODEL = "critical_tokens", "smollm2-135m"
PROBLEMS = [(level, index) for index in range(30) for level in ("arithmetic-1-9", "arithmetic-2-5")]
LEAST_CHANCE = 1e-3
"""Below this combined p, shared draws are not draws of the same policy."""


@dataclass(frozen=True)
class Sizes:
    """How much is done."""

    n_trajectories: int
    n: int
    """Rollouts after every token."""
    longest: int
    """Tokens of the longest trajectory taken."""
    settings: CriticalTokens
    rollouts: tuple[int, ...]
    repetitions_of_growth: int


FULL = Sizes(2, 64, 48, CriticalTokens(), (8, 16, 32, 64, 128), 3)
QUICK_SETTINGS = replace(
    CriticalTokens(),
    responses_per_problem=8,
    scan_rollouts=4,
    max_pairs=20,
    max_new_tokens=20,
    exact_tokens=2,
    exact_nodes=4,
)
QUICK = Sizes(1, 4, 14, QUICK_SETTINGS, (1, 2), 1)


def run(sizes: Sizes) -> Results:
    """Returns the seconds and tokens of all ways on every trajectory, what they name, and growth by rollouts."""
    model = load(MODEL)
    settings = sizes.settings
    chosen = explorers(model, sizes)
    curve(chosen[0], 1)  # warm up
    comparison, agreement = [], []
    for explorer in chosen:
        named: dict[str, Any] = {}
        comparison += searching(explorer, settings, sizes, named)
        agreement.append(agreement_row(explorer, sizes, named))
    chance = combined(np.concatenate([row.pop("chances") for row in agreement]))
    agreed = pd.DataFrame(agreement).assign(combined_p=chance)
    labels = {"model": MODEL, "benchmark": NAME, "curve": "rollouts"}
    growth = grow(labels, sizes.rollouts, sizes.repetitions_of_growth, lambda n: lambda: curve(chosen[0], n))
    return results(comparison, growth, agreement=agreed)


def searching(explorer: Explorer, settings: CriticalTokens, sizes: Sizes, named: dict[str, Any]) -> list[dict]:
    """Rows of the three ways on one trajectory; what they find is put into `named`."""

    def keeping(way: str, work: Callable[[], tuple[Any, int]]) -> Callable[[], tuple[Any, int]]:
        def kept() -> tuple[Any, int]:
            named[way] = work()
            return named[way]

        return kept

    case = f"{explorer.key}, {len(explorer.token_ids)} tokens"
    return compare(
        {"model": MODEL, "benchmark": NAME, "kind": "speed", "case": case, "amount_name": "tokens generated"},
        {
            ("toolkit", "curve, screening, fresh pairs, e-BH"): keeping("cliff", lambda: cliff(explorer, settings)),
            ("toolkit", "the paper's rule by a backward scan"): keeping("paper", lambda: paper(explorer, sizes.n)),
            ("baseline", "the paper's rule from the end on, nothing shared"): keeping(
                "script", lambda: script(explorer, sizes.n)
            ),
            ("obvious", f"{sizes.n} rollouts after every token"): keeping("brute", lambda: brute(explorer, sizes.n)),
        },
        1,
        None,
        lambda _way, found: found[1],
    )


def agreement_row(explorer: Explorer, sizes: Sizes, named: dict[str, Any]) -> dict[str, Any]:
    """What the three ways name in one trajectory, and how shared draws compare to independent ones.

    Raises RunError when they are not draws of the same policy.
    """
    right, scan, cliffs = (named[way][0] for way in ("brute", "paper", "cliff"))
    chances = two_sample(explorer, right, sizes.n)
    if combined(chances) < LEAST_CHANCE:
        raise RunError(
            f"{explorer.key}: shared draws are not those of the policy (combined p {combined(chances):.1g})."
        )
    return {
        "trajectory": explorer.key,
        "brute_token": critical_by_rule(right[1:].tolist(), sizes.n),
        "script_token": named["script"][0],
        "scan_token": scan.critical,
        "scan_set": f"{scan.set_first}..{scan.set_last}",
        "steepest_drop": int(np.argmax(right[:-1] - right[1:])),
        "cliff_sets": " ".join("+".join(str(token) for token in members) for _, members in cliffs),
        "positions_tested": len(chances),
        "smallest_p": float(min(chances)),
        "chances": chances,
    }


def combined(chances: np.ndarray) -> float:
    """Fisher's combined p of independent tests."""
    return float(chi2.sf(-2 * np.log(chances).sum(), 2 * len(chances)))


def explorers(model: LanguageModel, sizes: Sizes) -> list[Explorer]:
    """Wrong trajectories as the experiment chooses them; finding them is not timed."""
    found: list[Explorer] = []
    settings, setting = sizes.settings, setting_of(sizes.settings, model)
    for level, index in PROBLEMS:
        problem = find_problem(settings, level, index)
        responses = respond(model, problem, setting, settings.responses_per_problem)
        share = np.mean([response.outcome == "right" for response in responses])
        wrong = [
            n
            for n, response in enumerate(responses)
            if response.outcome == "wrong" and response.ended and len(response.token_ids) <= sizes.longest
        ]
        if 0.2 <= share <= 0.8 and wrong:
            key, response = f"{problem.id}-{wrong[0]}", responses[wrong[0]]
            found.append(Explorer(model, problem, key, response.token_ids, setting, response.draw_probability))
        if len(found) == sizes.n_trajectories:
            break
    return found


def curve(explorer: Explorer, n: int) -> np.ndarray:
    """The share of right answers behind every number of kept tokens, by n shared rollouts."""
    pool = Pool.around(explorer, "curve", n, "wrong")
    places = range(len(explorer.token_ids) + 1)
    pool.make(places)
    return np.array([np.mean([pool.outcome(kept, index) == "right" for index in range(n)]) for kept in places])


def brute(explorer: Explorer, n: int) -> tuple[np.ndarray, int]:
    """Right rollouts of n after 0, 1, … tokens, and tokens generated."""
    n_tokens = len(explorer.token_ids)
    wanted = [(kept, index) for kept in range(1, n_tokens) for index in range(n)]
    branches = explorer.independent("brute", wanted)
    right = np.zeros(n_tokens + 1, dtype=int)
    for (kept, _), branch in branches.items():
        right[kept] += branch.outcome == "right"
    right[0] = right[1]  # not part of the rule: the curve begins behind the first token
    return right, sum(len(branch.token_ids) for branch in branches.values())


def script(explorer: Explorer, n: int) -> tuple[int | None, int]:
    """The paper's token by a script that stops where the rule is decided, and tokens generated."""
    n_tokens, needed, generated = len(explorer.token_ids), needed_right(n), 0
    right = [0] * (n_tokens + 1)
    for kept in range(n_tokens - 1, 0, -1):
        for first in range(0, n, BLOCK):
            branches = explorer.independent("script", [(kept, index) for index in range(first, min(n, first + BLOCK))])
            right[kept] += sum(branch.outcome == "right" for branch in branches.values())
            generated += sum(len(branch.token_ids) for branch in branches.values())
            if right[kept] >= needed:
                return critical_by_rule(right[1:], n), generated
    return critical_by_rule(right[1:], n), generated


def paper(explorer: Explorer, n: int) -> tuple[Scan, int]:
    """The backward scan and tokens generated."""
    pool = Pool.around(explorer, "scan", n, "wrong")

    def right(kept: int, draws: slice) -> np.ndarray:
        pool.make([kept], draws)
        return np.array([pool.outcome(kept, index) == "right" for index in range(draws.start, draws.stop)])

    scan = backward_scan(len(explorer.token_ids), n, right)
    return scan, sum(len(branch.token_ids) for branch in pool.branches.values())


def cliff(explorer: Explorer, settings: CriticalTokens) -> tuple[list[tuple[int, tuple[int, ...]]], int]:
    """Confirmed cliffs with their confidence sets, and tokens generated."""
    thresholds = Thresholds(settings.effect, settings.margin, settings.alpha)
    scan = Pool.around(explorer, "scan", settings.scan_rollouts, "wrong")
    after = Pool.around(explorer, "after", settings.max_pairs, "wrong")
    scan.make(range(len(explorer.token_ids) + 1))
    value = np.array(
        [
            np.mean([scan.outcome(kept, index) == "right" for index in range(settings.scan_rollouts)])
            for kept in range(len(explorer.token_ids) + 1)
        ]
    )
    generated = 0

    def pairs(tokens: list[int], draws: slice) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        nonlocal generated
        indices = range(draws.start, draws.stop)
        wanted = [(token, index) for token in tokens for index in indices]
        also = after.missing([token + 1 for token in tokens], draws)
        made = explorer.branches({"without": wanted, after.arm: also})
        branches = made["without"]
        after.branches.update(made[after.arm])
        generated += sum(len(branch.token_ids) for branch in branches.values())
        return {
            token: (
                np.array([branches[token, index].outcome == "right" for index in indices]),
                np.array([after.outcome(token + 1, index) == "right" for index in indices]),
            )
            for token in tokens
        }

    candidates = screen(explorer.p, value, thresholds)
    arms = confirm(explorer.p, candidates, pairs, thresholds, settings.max_pairs)  # type: ignore[arg-type]
    tested = [evidence(token, explorer.p[token], *both, thresholds, len(candidates)) for token, both in arms.items()]
    cliffs = discoveries(tested, explorer.p, thresholds, both_signs=False) if tested else []
    for pool in (scan, after):
        generated += sum(len(branch.token_ids) for branch in pool.branches.values())
    return [(one.evidence.token, one.set_tokens) for one in cliffs], generated


def two_sample(explorer: Explorer, independent: np.ndarray, n: int) -> np.ndarray:
    """Fisher's exact p at every fifth position: shared draws against independent ones (neighbours share draws)."""
    pool = Pool.around(explorer, "check", n, "wrong")
    places = range(1, len(explorer.token_ids), 5)
    pool.make(places)
    chances = []
    for kept in places:
        right = sum(pool.outcome(kept, index) == "right" for index in range(n))
        table = [[right, n - right], [independent[kept], n - independent[kept]]]
        chances.append(float(fisher_exact(table)[1]))
    return np.array(chances)
