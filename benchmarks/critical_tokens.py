"""What shared branches and bets save: `python -m benchmarks.critical_tokens`.

On the same wrong trajectories, with the same decoding loop:
  brute     64 independent rollouts after every token, the paper's rule;
  paper     this toolkit: backward scan on shared branches, the same rule;
  cliff     this toolkit: curve of V, screening, fresh pairs, e-BH.
Prints generated tokens and processor seconds of one thread, whether the critical tokens are the same, and a two-sample test of
the shared draws against the independent ones at every position.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.stats import chi2, fisher_exact

from interp.models.language import LanguageModel
from interp.models.loading import load
from probes.critical_tokens.backward import Scan, backward_scan, critical_by_rule
from probes.critical_tokens.confirm import Thresholds, confirm, discoveries, evidence, screen
from probes.critical_tokens.experiment import CriticalTokens
from probes.critical_tokens.explorer import Explorer, Pool, Setting, respond
from probes.critical_tokens.units import find_problem, setting_of

MODEL = "smollm2-135m"
PROBLEMS = [(level, index) for index in range(30) for level in ("arithmetic-1-9", "arithmetic-2-5")]
N_TRAJECTORIES = 3
N = 64


def main() -> None:
    """Prints one row per way, and how well they agree."""
    torch.set_num_threads(1)  # waiting threads would count as work
    model = load(MODEL)
    settings = CriticalTokens()
    setting = setting_of(settings, model)
    ways: dict[str, list[float]] = {"brute": [0, 0], "paper": [0, 0], "cliff": [0, 0]}
    same = inside = cliffs_inside = found = 0
    chances: list[float] = []
    for explorer in explorers(model, settings, setting):
        seconds, (right, generated) = timed(lambda explorer=explorer: brute(explorer))
        add(ways["brute"], generated, seconds)
        expected = critical_by_rule(right[1:].tolist(), N)
        seconds, (scan, generated) = timed(lambda explorer=explorer: paper(explorer))
        add(ways["paper"], generated, seconds)
        same += scan.critical == expected
        inside += expected is not None and scan.set_first <= expected <= scan.set_last
        seconds, (tokens, generated) = timed(lambda explorer=explorer: cliff(explorer, settings))
        add(ways["cliff"], generated, seconds)
        steepest = int(np.argmax(right[:-1] - right[1:]))
        found += bool(tokens)
        cliffs_inside += any(steepest in members for _, members in tokens)
        chances += two_sample(explorer, right)
        say(
            f"{explorer.key}: brute {expected} (steepest drop {steepest}), scan {scan.critical} in {scan.set_first}..{scan.set_last}, "
            f"cliffs {[token for token, _ in tokens]}"
        )
    say(f"\n{N_TRAJECTORIES} wrong trajectories, {MODEL} float32, one thread\n")
    say("| way | generated tokens | fewer | processor seconds | fewer |\n|---|---|---|---|---|")
    for name, (generated, seconds) in ways.items():
        say(
            f"| {name} | {generated:,.0f} | {ways['brute'][0] / generated:.1f} | {seconds:.1f} | {ways['brute'][1] / seconds:.1f} |"
        )
    say(f"\npaper's token the same as brute force: {same} of {N_TRAJECTORIES}; brute force's inside the set: {inside}")
    say(
        f"a cliff found: {found} of {N_TRAJECTORIES}; brute force's steepest drop inside a cliff's set: {cliffs_inside}"
    )
    statistic = -2 * np.log(chances).sum()
    say(
        f"shared against independent draws, {len(chances)} positions: smallest p {min(chances):.3f}, "
        f"Fisher's combined p {chi2.sf(statistic, 2 * len(chances)):.3f}"
    )


def explorers(model: LanguageModel, settings: CriticalTokens, setting: Setting) -> list[Explorer]:
    """Wrong trajectories as the experiment chooses them; finding them is not timed."""
    found: list[Explorer] = []
    for level, index in PROBLEMS:
        problem = find_problem(settings, level, index)
        responses = respond(model, problem, setting, settings.responses_per_problem)
        share = np.mean([response.outcome == "right" for response in responses])
        wrong = [n for n, response in enumerate(responses) if response.outcome == "wrong" and response.ended]
        if 0.2 <= share <= 0.8 and wrong:
            key = f"{problem.id}-{wrong[0]}"
            found.append(Explorer(model, problem, key, responses[wrong[0]].token_ids, setting))
        if len(found) == N_TRAJECTORIES:
            break
    return found


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds of one call, and what it gave: unlike wall time they do not count what else the machine does."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def add(sums: list[float], generated: int, seconds: float) -> None:
    """Adds one trajectory's tokens and seconds."""
    sums[0] += generated
    sums[1] += seconds


def brute(explorer: Explorer) -> tuple[np.ndarray, int]:
    """Right rollouts of 64 after 0, 1, … tokens, and tokens generated."""
    n_tokens = len(explorer.token_ids)
    wanted = [(kept, index) for kept in range(1, n_tokens) for index in range(N)]
    branches = explorer.independent("brute", wanted)
    right = np.zeros(n_tokens + 1, dtype=int)
    for (kept, _), branch in branches.items():
        right[kept] += branch.outcome == "right"
    right[0] = right[1]  # not part of the rule: the curve begins behind the first token
    return right, sum(len(branch.token_ids) for branch in branches.values())


def paper(explorer: Explorer) -> tuple[Scan, int]:
    """The backward scan and tokens generated."""
    pool = Pool.around(explorer, "scan", N, "wrong")

    def right(kept: int, draws: slice) -> np.ndarray:
        pool.make([kept], draws)
        return np.array([pool.outcome(kept, index) == "right" for index in range(draws.start, draws.stop)])

    scan = backward_scan(len(explorer.token_ids), N, right)
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


def two_sample(explorer: Explorer, independent: np.ndarray) -> list[float]:
    """Fisher's exact p at every fifth position: shared draws against independent ones (neighbours share draws)."""
    pool = Pool.around(explorer, "check", N, "wrong")
    places = range(1, len(explorer.token_ids), 5)
    pool.make(places)
    chances = []
    for kept in places:
        right = sum(pool.outcome(kept, index) == "right" for index in range(N))
        table = [[right, N - right], [independent[kept], N - independent[kept]]]
        chances.append(float(fisher_exact(table)[1]))
    return chances


def say(text: str) -> None:
    """Prints at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
