"""What is said of all samples together: recall with intervals over contexts, where items fail, what conditions cost. No model."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from interp.estimates import beside, estimates
from interp.models.identity import ModelFacts
from interp.statistics import Array, Estimate, bootstrap_interval, bounded, cluster_weights, share_estimate
from interp.tables import Tables, empty
from probes.context_recall.plan import AT_RANDOM, CUTS, KEPT_BY, MOVED_BY, ROLES, WHOLE, n_in_role, rankings
from probes.context_recall.prose_summaries import slice_causes, slices, summarise_order
from probes.context_recall.settings import Settings
from probes.context_recall.tables import SCHEMAS
from probes.context_recall.tasks.catalogue import task_of

CELL = ["task", "cell", "sample_id", "question"]
WITHOUT_PAIR = "without the pair"
KEPT = ("pair_kept", "value_kept", "kept_share")
STAGES = ("said", "bound, not said", "found, not bound", "not found", "right, not found")
DRAWS = 2000


def summarise_all(settings: Settings, facts: ModelFacts, measured: Tables) -> dict[str, pd.DataFrame]:
    """Returns the summary tables; those that nothing was measured for are empty."""
    answers, items = measured["answers"], measured["items"]
    found = {
        "recall": _recall(settings, answers),
        "found": _found(settings, items, answers),
        "stages": _stages(settings, items),
        "causes": _causes(settings, answers),
        "survival": survival(settings, measured["kept"]),
        "layers": _layers(settings, measured["layer_margins"]),
        "heads": _heads(settings, facts, measured),
        "lengths": recall_by_length(settings, items, answers),
        "effective": effective_length(settings, items),
        "order": summarise_order(settings, items, answers),
        "slices": slices(settings, measured["token_nats"]),
        "slice_causes": slice_causes(settings, measured["token_nats"], measured["replaced"]),
    }
    return {name: table if len(table) else empty(SCHEMAS[name]).drop(columns="model") for name, table in found.items()}


def _recall(settings: Settings, answers: pd.DataFrame) -> pd.DataFrame:
    by = ["task", "cell", "kind", "is_length"]
    if not len(answers):
        return pd.DataFrame()
    whole = answers[answers["condition"] == WHOLE].copy()
    without = answers[answers["condition"] == WITHOUT_PAIR].set_index(CELL)["logp_nats"].rename("without_nats")
    whole = whole.join(without, on=CELL)
    paired = whole.dropna(subset="without_nats")
    parts = [
        estimates(whole, by, "is_right", "sample_id", kind="share", name="right", seed=settings.seed),
        estimates(whole, by, "is_said", "sample_id", kind="share", name="said", seed=settings.seed),
        estimates(whole, by, "margin_nats", "sample_id", name="margin_nats", seed=settings.seed),
        estimates(paired, by, "logp_nats", "sample_id", minus="without_nats", name="gain_nats", seed=settings.seed),
    ]
    chance = whole.groupby(by, as_index=False, sort=False)["chance"].mean()
    found = beside(by, *parts).merge(chance, on=by)
    floors = {
        text.partition("(")[0]: task_of(text).floor for text in settings.tasks if text.partition("(")[0] != "natural"
    }
    return found.assign(is_floor=[floors.get(task, False) for task in found["task"]])


# ---------------------------------------------------------------------- found, bound, said


def _found(settings: Settings, items: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """Shares of questions found, bound and said, over all sizes of a task; items of the length curve are left out."""
    items = items[~items["is_length"]]
    whole = answers[(answers["condition"] == WHOLE) & ~answers["is_length"]]
    value_chance = whole.groupby("task")["chance"].mean()
    pair_chance = (1 / items["n_pairs"].clip(lower=1)).groupby(items["task"]).mean()
    parts = []
    for step in ("found", "bound", "said"):
        rows = items.dropna(subset=f"is_{step}")
        chance = {"found": pair_chance, "bound": value_chance, "said": pd.Series(dtype=float)}[step]
        part = estimates(rows, ["task"], f"is_{step}", "sample_id", kind="share", seed=settings.seed)
        parts.append(part.assign(step=step, chance=part["task"].map(chance).astype(float)))
    return pd.concat(parts, ignore_index=True)


def stage_of(found: float, bound: bool, said: bool) -> str:
    """Returns where a question ended; one that is right without having been found stands apart."""
    if (said or bound) and found == 0:
        return "right, not found"
    if said:
        return "said"
    if bound:
        return "bound, not said"
    return "found, not bound" if found else "not found"


def _stages(settings: Settings, items: pd.DataFrame) -> pd.DataFrame:
    rows = items[~items["is_length"]].dropna(subset="is_found")
    if not len(rows):
        return pd.DataFrame()
    stages = [stage_of(*row) for row in zip(rows["is_found"], rows["is_bound"], rows["is_said"], strict=True)]
    parts = []
    for stage in STAGES:
        marked = rows.assign(here=[one == stage for one in stages])
        parts.append(
            estimates(marked, ["task"], "here", "sample_id", kind="share", seed=settings.seed).assign(stage=stage)
        )
    return pd.concat(parts, ignore_index=True)


# ---------------------------------------------------------------------- causes


def controls(conditions: Iterable[str]) -> Mapping[str, str]:
    """Returns the control of every condition that can have been measured; a moved question has the one where it stands.

    What a policy keeps is held against as many keys kept at random.
    """
    named = list(conditions)
    heads = {f"without {role}": f"without random {role}" for role in ROLES}
    cuts = {f"cut to {cut}": "cut to elsewhere" for cut in CUTS if cut != "elsewhere"}
    moved = {name: WHOLE for name in named if name.startswith(MOVED_BY)}
    kept = {name: AT_RANDOM for name in named if name.startswith(KEPT_BY) and name != AT_RANDOM}
    return {**heads, **cuts, **moved, **kept}


def _causes(settings: Settings, answers: pd.DataFrame) -> pd.DataFrame:
    """Drops against the whole model, and beyond the control's, paired by question, intervals over contexts."""
    rows = answers.assign(right=answers["is_first_right"].astype(float), said=answers["is_said"])
    wide = rows.groupby([*CELL, "condition"], as_index=False)[["first_margin_nats", "right", "said"]].mean()
    parts = []
    for condition, control in controls(answers["condition"].unique()).items():
        for quantity in ("first_margin_nats", "right", *(["said"] if condition.startswith(KEPT_BY) else [])):
            table = wide.pivot(index=CELL, columns="condition", values=quantity)
            if not {condition, control} <= set(table.columns):
                continue
            table = table[list(dict.fromkeys([WHOLE, condition, control]))].dropna().reset_index()
            drops = table.assign(own=table[WHOLE] - table[condition], other=table[WHOLE] - table[control])
            kind = "mean" if quantity == "first_margin_nats" else "share"
            drop = estimates(
                drops, ["task"], WHOLE, "sample_id", minus=condition, kind=kind, name="drop", seed=settings.seed
            )
            beyond = estimates(
                drops, ["task"], "own", "sample_id", minus="other", kind=kind, name="beyond", seed=settings.seed
            )
            means = drops.groupby("task", as_index=False).agg(control_drop=("other", "mean"))
            part = beside(["task"], drop, beyond).merge(means, on="task")
            parts.append(part.assign(condition=condition, control=control, quantity=quantity))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def survival(settings: Settings, kept: pd.DataFrame) -> pd.DataFrame:
    """Returns the table `survival`: what policies leave of the right pair, task by task, beside as many keys at random.

    Draws of random keys count as one condition, by their mean.
    """
    keys, by = ["task", "cell", "sample_id", "question"], ["task", "condition"]
    rows = kept[kept["refusal"] == ""]
    parts = []
    for quantity in KEPT if len(rows) else ():
        means = rows.groupby([*keys, "condition"], as_index=False, sort=False)[quantity].mean().dropna()
        random = means[means["condition"] == AT_RANDOM].set_index(keys)[quantity].rename("at_random")
        means = means.join(random, on=keys)
        paired = means[means["condition"] != AT_RANDOM].dropna()
        value = estimates(means, by, quantity, "sample_id", kind="share", name="value", seed=settings.seed)
        value = value.rename(columns={"value_ci_low": "ci_low", "value_ci_high": "ci_high"})
        beyond = estimates(
            paired, by, quantity, "sample_id", minus="at_random", kind="share", name="beyond", seed=settings.seed
        )
        part = beside(by, value, beyond).merge(
            paired.groupby(by, as_index=False).agg(random=("at_random", "mean")), on=by, how="left"
        )
        parts.append(part.assign(quantity=quantity))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _layers(settings: Settings, margins: pd.DataFrame) -> pd.DataFrame:
    by = ["task", "hops", "direction", "layer"]
    if not len(margins):
        return pd.DataFrame()
    found = estimates(margins, by, "is_right", "sample_id", kind="share", seed=settings.seed, draws=500)
    return found.merge(margins.groupby(by, as_index=False, sort=False)["chance"].mean(), on=by)


def _heads(settings: Settings, facts: ModelFacts, measured: Tables) -> pd.DataFrame:
    """The ranking of every role, with each head's mass on the old and on the newest value of updated keys."""
    if not len(measured["head_scores"]):
        return pd.DataFrame()
    means = measured["head_scores"].groupby(["role", "layer", "head"])["score"].mean()
    masses = measured["head_masses"]
    updated = masses[masses["kind"] == "updated"].groupby(["layer", "head"])[["old_mass", "gold_mass"]].mean()
    n = n_in_role(settings, facts)
    ranking = rankings(settings, facts, measured)
    found = pd.DataFrame(
        [
            (role, place + 1, *head, means.get((role, *head), np.nan), place < n)
            for role in ROLES
            for place, head in enumerate(ranking[role])
        ],
        columns=["role", "rank", "layer", "head", "score", "is_in_role"],
    )
    return found.join(updated.rename(columns={"gold_mass": "new_mass"}), on=["layer", "head"])


def falling(shares: Array, weights: Array | None = None) -> Array:
    """Returns the closest sequence (least squares) that never rises, of shares by growing length."""
    from scipy.optimize import isotonic_regression

    return np.asarray(isotonic_regression(shares, weights=weights, increasing=False).x)


def longest_at(lengths: Sequence[float], shares: Array, threshold: float) -> float:
    """Returns the longest measured length at which a falling curve is at the threshold; 0 where it never is.

    No length between two measured ones is made up.
    """
    enough = [length for length, share in zip(lengths, shares, strict=True) if share >= threshold - 1e-9]
    return max(enough, default=0.0)


def _curve(items: pd.DataFrame) -> tuple[list[int], list[pd.DataFrame]]:
    rows = items[items["is_length"]]
    nominal = rows["cell"].str.extract(r"tokens=(\d+)", expand=False).astype(float)
    lengths = sorted(nominal.dropna().unique())
    return [int(length) for length in lengths], [rows[nominal == length] for length in lengths]


def _drawn(parts: Sequence[pd.DataFrame], seed: int) -> Array:
    """Falling curves of bootstrap draws, contexts resampled within every length: [draw, length]."""
    drawn = []
    for place, part in enumerate(parts):
        means = part.groupby("sample_id")["is_said"].mean().to_numpy(dtype=float)
        drawn.append(cluster_weights(len(means), DRAWS, seed + place) @ means / len(means))
    return np.stack([falling(row) for row in np.stack(drawn, axis=1)])


def _band(curve: Array, parts: Sequence[pd.DataFrame], seed: int) -> tuple[Array, Array]:
    """The interval of the falling curve at every length, itself falling: what is too much at a length is so at all longer ones."""
    n = min(part["sample_id"].nunique() for part in parts)
    ends = np.stack([curve, *bootstrap_interval(curve, _drawn(parts, seed), n, (0.0, 1.0))], axis=1)
    found = [bounded(Estimate(value, below, above, n)) for value, below, above in ends.tolist()]
    low, high = (np.array([getattr(one, end) for one in found]) for end in ("ci_low", "ci_high"))
    return np.maximum.accumulate(low[::-1])[::-1], np.minimum.accumulate(high)


def recall_by_length(settings: Settings, items: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """Returns the table `lengths`; greedy match is what counts."""
    lengths, parts = _curve(items)
    if not lengths:
        return pd.DataFrame()
    chance = answers[answers["is_length"] & (answers["condition"] == WHOLE)]["chance"].mean()
    shares = [share_estimate(part["is_said"], part["sample_id"], seed=settings.seed) for part in parts]
    curve = falling(np.array([one.value for one in shares]))
    low, high = _band(curve, parts, settings.seed)
    return pd.DataFrame(
        {
            "context_tokens": lengths, "context_chars": [part["context_chars"].mean() for part in parts],
            "value": [one.value for one in shares], "ci_low": [one.ci_low for one in shares],
            "ci_high": [one.ci_high for one in shares], "falling": curve, "falling_ci_low": low, "falling_ci_high": high,
            "chance": chance, "n": [one.n for one in shares],
        }
    )  # fmt: skip


def effective_length(settings: Settings, items: pd.DataFrame) -> pd.DataFrame:
    """Returns the table `effective`, in tokens and characters."""
    lengths, parts = _curve(items)
    if not lengths:
        return pd.DataFrame()
    curve = falling(np.array([part["is_said"].mean() for part in parts], dtype=float))
    low, high = _band(curve, parts, settings.seed)
    rows = []
    for unit, ends in (
        ("tokens", [float(length) for length in lengths]),
        ("characters", [float(part["context_chars"].mean()) for part in parts]),
    ):
        value, shortest, longest = (longest_at(ends, one, settings.effective_at) for one in (curve, low, high))
        rows.append((settings.effective_at, unit, value, shortest, longest, max(ends)))
    return pd.DataFrame(rows, columns=["threshold", "unit", "value", "ci_low", "ci_high", "longest"])
