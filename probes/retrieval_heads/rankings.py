"""Every detector's list of heads, best first."""

from interp.tables import Tables
from probes.retrieval_heads.summarise import Head, detection_totals, echo_induction_means, ranked_heads


def rankings_of(measured: Tables, *, only_passed: bool) -> dict[str, list[Head]]:
    """Returns all heads in falling order of score, for every detector that has scores."""
    rankings = {
        name: ranked_heads(total.heads, total.means())
        for name, total in detection_totals(measured, only_passed=only_passed).items()
    }
    echo = echo_induction_means(measured)
    heads = [(int(layer), int(head)) for layer, head in zip(echo["layer"], echo["head"], strict=True)]
    for name in ("echo", "induction"):
        if heads:
            rankings[name] = ranked_heads(heads, echo[name].to_numpy())
    return rankings
