"""The sentences of the report. What the intervals do not show is said to be not shown."""

from typing import Any

import pandas as pd

from interp.estimates import unshown
from interp.experiments.experiment import Finding
from interp.tables import Tables
from probes.embedding_swap.ciphers import ELSEWHERE
from probes.embedding_swap.pieces import SPELLED
from probes.embedding_swap.summaries import ANY


def find_all(tables: Tables) -> list[Finding]:
    """Returns the sentences of every part that was measured."""
    return [*_of_ciphers(tables), *_of_lens(tables), *_of_frames(tables), *_of_rules(tables["rules"])]


def _of_ciphers(tables: Tables) -> list[Finding]:
    ciphers, course = tables["ciphers"], tables["course"]
    found = []
    for condition in _conditions(ciphers):
        rows = ciphers[_is(ciphers, condition) & ciphers["is_changed"]].set_index("seen")
        parts = [
            f"{seen} {_interval(rows.loc[seen], 'gap_nats')}"
            for seen in ("new", "again", "recall")
            if seen in rows.index
        ]
        found.append(
            Finding(
                f"{_in_words(condition)}: added cost of a token with another row, against the plain text, in nats: {', '.join(parts)}."
            )
        )
    first = _conditions(ciphers)[:1]
    for condition in [
        one for one in _conditions(ciphers) if one[0] == "cipher" and one[1:] == _largest(ciphers, first)
    ]:
        ends = course[_is(course, condition) & (course["seen"] == "new")].sort_values("position_low")
        if len(ends) > 1:
            a, b = ends.iloc[0], ends.iloc[-1]
            falls = b["ci_high"] < a["ci_low"]
            said = "falls with context" if falls else "is not shown to fall with context"
            found.append(
                Finding(
                    f"{_in_words(condition)}: for tokens that are new in the text, where nothing can be copied, the gap {said}: "
                    f"{_interval(a, 'gap_nats')} in the first {a['position_high']} tokens, {_interval(b, 'gap_nats')} from token "
                    f"{b['position_low']} on."
                )
            )
    return found


def _largest(ciphers: pd.DataFrame, first: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Class and share of the fullest cipher of the first class."""
    if not first:
        return ()
    own = ciphers[(ciphers["kind"] == "cipher") & (ciphers["among"] == first[0][1])]
    return (first[0][1], own["share"].max()) if len(own) else ()


def _of_lens(tables: Tables) -> list[Finding]:
    lens: Any = tables["lens_layers"]
    if not len(lens):
        if not len(tables["places"]):
            return []
        return [
            Finding(
                "No lens: this model's logits are not a sum of its layers' outputs, or nothing was enciphered.",
                "warning",
            )
        ]
    found = []
    for which in ("in its place", "plain"):
        here: Any = lens[(lens["kind"] == "cipher") & (lens["where"] == "predicting") & (lens["seen"] == "recall")]
        rows, control = here[here["which"] == which], here[here["which"] == which + ELSEWHERE].set_index("layer")
        if not len(rows):
            continue
        last, best = rows.loc[rows["layer"].idxmax()], rows.loc[rows["margin_nats"].idxmax()]
        name = "the plain token" if which == "plain" else "the token that replaces it"
        highest = f"layer {best['layer']}, the highest of {rows['layer'].nunique()}"
        places = {best["layer"]: highest} | {last["layer"]: "the last layer"}
        said = ", ".join(
            f"{_interval(rows.set_index('layer').loc[layer], 'margin_nats')} nats after {place}{_unshown(rows, layer)} (tokens from other "
            f"positions {_interval(control.loc[layer], 'margin_nats')})"
            for layer, place in reversed(places.items())
        )
        found.append(
            Finding(
                f"Lens under the cipher, where a token can be copied: the logit of {name} less that of others of the class is {said}."
            )
        )
    return found


def _of_frames(tables: Tables) -> list[Finding]:
    found = []
    for _, row in tables["effects"].iterrows():
        shown = unshown(row["ci_low"], row["ci_high"])
        whose = "the frame's part of speech" if row["source"] == "frame" else "its own part of speech"
        found.append(
            Finding(
                f"Behaviour ({row['revision']}): log probability of a {row['kind']} word where a test requires {whose}, less elsewhere, in "
                f"nats: {_interval(row, 'effect_nats')}{shown} ({row['n']} words)."
            )
        )
    accuracy: Any = tables["accuracy"]
    if found and not len(accuracy):
        text = "No readout: the states between this model's layers cannot be read, so frames are judged by behaviour alone."
        found.append(Finding(text, "warning"))
    for (revision, kind), rows in accuracy.groupby(["revision", "kind"], sort=False):
        at = rows[rows["place"] == "word"]
        best = at.loc[at["frame_share"].idxmax()]
        before = rows[(rows["place"] == "before") & (rows["layer"] == best["layer"])].iloc[0]
        found.append(
            Finding(
                f"Readout ({revision}): at a {kind} word the frame's part of speech is decoded in "
                f"{_interval(best, 'frame_share', 'frame_share_ci')} of cases after layer {best['layer']}, the best of {len(at)}"
                f"{unshown(best['frame_share_ci_low'], best['frame_share_ci_high'], best['chance'])}, at the token before it in "
                f"{_interval(before, 'frame_share', 'frame_share_ci')}; chance {best['chance']:.2f}."
            )
        )
    return found


def _of_rules(rules: pd.DataFrame) -> list[Finding]:
    found = []
    for _, row in rules.sort_values("output_nats").iterrows():
        costs = f"added cost in nats {_added(row, 'output_nats')} at the token, {_added(row, 'input_nats')} at each token after it"
        if row["rule"] == SPELLED:
            found.append(Finding(f"Split into its pieces, {costs}."))
        else:
            cosine = _interval(row, "cosine", "cosine_ci")
            found.append(Finding(f"Row rebuilt by {row['rule']}: {costs}; cosine with the true row {cosine}."))
    return found


def _conditions(ciphers: pd.DataFrame) -> list[tuple[Any, ...]]:
    changed = ciphers[ciphers["seen"] == ANY]
    return list(changed[["kind", "among", "share"]].drop_duplicates().itertuples(index=False, name=None))


def _is(table: pd.DataFrame, condition: tuple[Any, ...]) -> pd.Series:
    return (table["kind"] == condition[0]) & (table["among"] == condition[1]) & (table["share"] == condition[2])


def _in_words(condition: tuple[Any, ...]) -> str:
    kind, among, share = condition
    names = {"cipher": "Cipher", "gaussian": "Gaussian rows", "rare": "Rows of words in none of the texts"}
    return f"{names[kind]} over {share:.0%} of the class {among}"


def _added(row: Any, name: str) -> str:
    return _interval(row, name, f"{name}_ci") + unshown(row[f"{name}_ci_low"], row[f"{name}_ci_high"])


def _unshown(rows: pd.DataFrame, layer: Any) -> str:
    row = rows[rows["layer"] == layer].iloc[0]
    return unshown(row["ci_low"], row["ci_high"])


def _interval(row: Any, name: str, interval: str = "ci") -> str:
    low, high = (row[f"{interval}_{end}"] for end in ("low", "high"))
    return f"{row[name]:.2f} [{low:.2f}, {high:.2f}]"
