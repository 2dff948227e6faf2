"""What the byte_bias experiment says of a run, in sentences."""

from collections.abc import Sequence
from typing import Any

from interp.estimates import unshown
from interp.experiments.experiment import Finding
from interp.tables import Tables


def findings(tables: Tables) -> Sequence[Finding]:
    """Returns sentences on the cost of a prompt's end, on ways to continue it, and on words and names of several tokens."""
    return [*_of_prompts(tables), *_of_words(tables), *_of_names(tables)]


def _of_prompts(tables: Tables) -> list[Finding]:
    ratios, ways = tables["ratios"], tables["ways"]
    found = []
    for row in ratios[ratios["domain"] == "all"].itertuples():
        where = "at a token border" if row.is_token_border else "inside a token"
        found.append(
            Finding(
                f"Where a prompt ends {where}, the true continuation is 10^{row.log10_ratio:.2f} times as likely over all covers as after "
                f"the prompt's own tokens [{row.ci_low:.2f}, {row.ci_high:.2f}]{unshown(row.ci_low, row.ci_high)} "
                f"({row.n_rows} cuts of {row.n} prompts)."
            )
        )
    inside = ways[(ways["domain"] == "all") & ~ways["is_token_border"]]
    if len(inside):
        parts = [
            f"{row.way} {row.nats:.2f} [{row.nats_ci_low:.2f}, {row.nats_ci_high:.2f}]" for row in inside.itertuples()
        ]
        found.append(
            Finding(f"Surprisal of the true next byte after a cut inside a token, in nats: {', '.join(parts)}.")
        )
    return found


def _of_words(tables: Tables) -> list[Finding]:
    return [
        Finding(
            f"Surprisal of words of several tokens, less that of equally frequent words of one token, in nats: {row.difference:+.2f} "
            f"[{row.ci_low:+.2f}, {row.ci_high:+.2f}]{unshown(row.ci_low, row.ci_high)}; {row.unmatched:+.2f} if frequency is not matched."
        )
        for row in tables["fragmentation"].query("measure == 'surprisal_nats'").itertuples()
    ]


def _of_names(tables: Tables) -> list[Finding]:
    """What the first token of a name holds of the one after the next: of the next one, every model is asked anyway."""
    found: list[Finding] = []
    depths, gaps = tables["concept_depths"], tables["concept_gaps"]
    ahead = depths[(depths["offset"] == 2) & (depths["kind"] == "name")]
    linear, shuffled = (ahead[ahead["map"] == name].set_index("depth").sort_index() for name in ("linear", "shuffled"))
    if not len(linear):
        return found
    best: Any = linear["above"].idxmax()
    parts = [
        f"{row['above']:.0%} [{row['above_ci_low']:.0%}, {row['above_ci_high']:.0%}] {name}"
        for row, name in (
            (linear.loc[best], _state(best)),
            (linear.iloc[0], "from the token alone"),
            (shuffled.loc[best], "with targets shuffled"),
        )
    ]
    found.append(
        Finding(
            f"At the first token of a name, the token after the next is ranked above those of other names in {', '.join(parts)} "
            f"(chance 50%, {linear.loc[best, 'n_rows']} names; the depth is the best of {len(linear)})."
        )
    )
    of_kind = gaps[gaps["kind"] == "name"]
    depths_of_gaps = sorted(set(of_kind["depth"]))
    depth = depths_of_gaps[len(depths_of_gaps) // 2] if depths_of_gaps else 0
    of_names: Any = of_kind[of_kind["depth"] == depth]
    for row in of_names.itertuples():
        which = "The next token" if row.offset == 1 else f"The token {row.offset} ahead"
        found.append(
            Finding(
                f"{which} is ranked above others, in names less in equally frequent free runs: {100 * row.difference:+.1f} points "
                f"[{100 * row.ci_low:+.1f}, {100 * row.ci_high:+.1f}]{unshown(row.ci_low, row.ci_high)}; {100 * row.unmatched:+.1f} if "
                f"frequency is not matched ({_state(depth)}, the middle depth: the best of names would flatter them)."
            )
        )
    return found


def _state(depth: int) -> str:
    return f"from the state after layer {depth - 1}" if depth else "from the first layer's input"
