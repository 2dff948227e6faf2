"""What no interval shows, no sentence claims: each wing's findings over tables whose effects are set to nothing, to either side, or to
no interval at all.

An effect is set in the columns that a sentence reads it from, so a sentence that does not look at the interval cannot pass.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import pandas as pd
import pytest

from interp.experiments.experiment import Finding
from interp.tables import empty
from probes.byte_bias.findings import findings as byte_findings
from probes.context_recall.findings import _causes, _left, _margins, _prose
from probes.embedding_swap.ciphers import ELSEWHERE
from probes.embedding_swap.findings import _of_ciphers, _of_frames, _of_lens, _of_rules
from probes.function_tokens.experiment import FunctionTokens
from probes.function_tokens.findings import find_all as function_findings
from probes.joined.findings import find_attention, find_critical, find_memory
from probes.kv_policies.findings import _roles
from probes.kv_policies.settings import Settings as KvSettings
from probes.prediction_depth.findings import _position, _settling, _skips
from probes.retrieval_heads.experiment import RetrievalHeads
from probes.retrieval_heads.findings import find_all as retrieval_findings
from probes.sequence_representation.findings import _of_prepending
from probes.t2i_flow.experiment import T2IFlow
from probes.t2i_flow.findings import find_all as flow_findings
from probes.training_memory.findings import _of_layers, _of_most, _of_values
from probes.verbatim_memory.experiment import VerbatimMemory
from probes.verbatim_memory.findings import find_all as memory_findings
from tests.test_intervals import SCHEMAS, SEVERAL, made

NAN = float("nan")
UNDECIDED = re.compile(
    r"not shown|none shown|no difference|no sign|no more and no fewer|neither prefer|not decided|cannot be|0 of 1 policies"
)


class Effect(NamedTuple):
    """A number and its interval."""

    value: float
    low: float
    high: float

    def named(self, name: str, prefix: str | None = None) -> dict[str, float]:
        """As the columns of a table: the interval's begin with the name, or with the prefix."""
        prefix = f"{name}_ci" if prefix is None else prefix
        return {name: self.value, f"{prefix}_low": self.low, f"{prefix}_high": self.high}


NOTHING, NO_INTERVAL = Effect(0.1, -0.5, 0.7), Effect(0.4, NAN, NAN)
MORE, LESS = Effect(0.5, 0.25, 0.75), Effect(-0.5, -0.75, -0.25)
Say = Callable[[Effect], Iterable[Finding | str]]


def of_wing(wing: str, **changed: Mapping[str, Any]) -> Any:
    """A wing's tables with columns of some of them changed."""
    tables: Any = {name: empty(schema) for name, schema in SCHEMAS[wing].items()} | made(wing, SEVERAL)
    return tables | {name: tables[name].assign(**columns) for name, columns in changed.items()}


def rows(*given: Mapping[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(list(given))


# ---------------------------------------------------------------------- the effects of every wing


def masked_recall(effect: Effect) -> list[Finding]:
    return retrieval_findings(
        RetrievalHeads(), of_wing("retrieval_heads", ablation_summary=effect.named("beyond_random"))
    )


def masked_lists(effect: Effect) -> list[Finding]:
    return memory_findings(
        VerbatimMemory(conditions=("repeat", "permute", "novel")),
        of_wing("verbatim_memory", masking_summary=effect.named("beyond_random")),
    )


def coverage(effect: Effect) -> list[Finding]:
    return function_findings(
        FunctionTokens(), of_wing("function_tokens", coverage=effect.named("excess_alive", "excess_ci"))
    )


def knocked_out(effect: Effect) -> list[Finding]:
    return function_findings(FunctionTokens(), of_wing("function_tokens", reactivation=effect.named("beyond_control")))


def steered(effect: Effect) -> list[Finding]:
    return function_findings(FunctionTokens(), of_wing("function_tokens", steering=effect.named("beyond_random")))


def repaired(effect: Effect) -> list[Finding]:
    tables = of_wing("t2i_flow")
    rates = tables["rates"].copy()
    one = (rates["quantity"] == "relative_reduction") | (rates["quantity"] == "others_change")
    rates.loc[one, ["estimate", "ci_low", "ci_high"]] = list(effect)
    return flow_findings(T2IFlow(), tables | {"rates": rates, "repair": rows({"chosen": True})})


def by_a_rule(effect: Effect) -> list[Finding]:
    """The effect is how far the area under the curve lies from chance."""
    tables = of_wing("t2i_flow")
    cells = tables["predictor"].copy()
    cells.loc[cells["metric"] == "auroc", ["estimate", "ci_low", "ci_high"]] = [0.5 + end / 2 for end in effect]
    return flow_findings(T2IFlow(), tables | {"predictor": cells})


def words(effect: Effect) -> Iterable[Finding]:
    table = rows({**effect.named("difference", "ci"), "measure": "surprisal_nats", "unmatched": 0.2})
    gaps = rows({**effect.named("difference", "ci"), "kind": "name", "depth": 1, "offset": 2, "unmatched": 0.2})
    ahead = [
        {"offset": 2, "kind": "name", "map": name, "depth": depth, "n_rows": 9, **Effect(0.5, 0.4, 0.6).named("above")}
        for name in ("linear", "shuffled")
        for depth in (0, 1)
    ]
    ratio = {"domain": "all", "is_token_border": True, **effect.named("log10_ratio", "ci"), "n_rows": 9, "n": 9}
    return byte_findings(
        {
            "fragmentation": table, "concept_gaps": gaps, "concept_depths": rows(*ahead), "ratios": rows(ratio),
            "ways": pd.DataFrame(columns=["domain", "is_token_border"]),
        }
    )  # fmt: skip


def frames(effect: Effect) -> Iterable[Finding]:
    row = {**effect.named("effect_nats", "ci"), "source": "frame", "revision": "own", "kind": "rare", "n": 9}
    return _of_frames({"effects": rows(row), "accuracy": pd.DataFrame(columns=["revision", "kind"])})


def rules(effect: Effect) -> Iterable[Finding]:
    row = {"rule": "mean", **effect.named("output_nats"), **effect.named("input_nats"), **effect.named("cosine")}
    return _of_rules(rows(row))


def lens(effect: Effect) -> Iterable[Finding]:
    row = {"kind": "cipher", "where": "predicting", "seen": "recall", "layer": 3, **effect.named("margin_nats", "ci")}
    return _of_lens({"lens_layers": rows({**row, "which": "plain"}, {**row, "which": f"plain{ELSEWHERE}"})})


def settling(effect: Effect) -> Iterable[Finding]:
    own = {"lens": "logit", "matched": False, "contrast": "function less content", **effect.named("value", "ci")}
    whole = {"grouping": "all", "lens": "logit", **Effect(3, 2, 4).named("value", "ci"), "n": 9}
    yield from _settling(
        {"depths": rows({"lens": "logit", "depth": 4}), "settled": rows(whole), "contrasts": rows(own)}
    )


def slopes(effect: Effect) -> Iterable[Finding]:
    found = [
        {"quantity": name, "lens": "logit", **effect.named("value", "ci")}
        for name in ("settle_depth", "surprisal_nats")
    ]
    return _position({"slopes": rows(*found), "depths": rows({"lens": "logit"})})


def schedules(effect: Effect) -> Iterable[Finding]:
    row = {"budget": 0.8, "arm": "drop_top", "against": "constant", **effect.named("value", "ci")}
    return _skips({"skip_costs": pd.DataFrame(columns=["quantity", "schedule", "budget"]), "schedules": rows(row)})


def conditions(effect: Effect) -> Iterable[Finding]:
    row = {"quantity": "first_margin_nats", "condition": "without retrieval", "task": "mqar", **effect.named("beyond")}
    return _causes(rows(row))


def prose(effect: Effect) -> Iterable[Finding]:
    return _prose(rows({"condition": "without induction", "control": "random", **effect.named("value", "ci")}))


def kept(effect: Effect) -> Iterable[str]:
    row = {"condition": "kept", "quantity": "first_margin_nats", "task": "mqar", **effect.named("beyond")}
    left = {**row, "quantity": "pair_kept", "random": 0.5, **Effect(0.5, 0.4, 0.6).named("value", "ci")}
    return [_margins(rows(row), "kept"), _left(rows(left), "kept")]


def roles(effect: Effect) -> Iterable[Finding]:
    settings = KvSettings()
    row = {
        "quantity": "output_change", "role": "retrieval", "budget": settings.main_budget, "material": "needles", "policy": "h2o",
        "scope": settings.scopes[0], **effect.named("difference"),
    }  # fmt: skip
    return _roles(settings, {"roles": rows(row)})


def prepended(effect: Effect) -> Iterable[Finding]:
    row = {
        "arm": "prepend", "measure": "cosine", "pairs": "all", "read_at": "last", "exit": 7, "against": "prompt", "layer": 3, "n_rows": 9,
        **effect.named("value", "ci"),
    }  # fmt: skip
    return _of_prepending(rows(row))


def duplicates(effect: Effect) -> Iterable[Finding]:
    from probes.training_memory.duplicate_summaries import AT_START, lost_without

    from probes.training_memory.plan import ROLES, random_name

    names = [("start", AT_START)]
    names += [
        (place, lost_without(name))
        for role in ROLES
        for name in (role, random_name(role))
        for place in ("start", "copied")
    ]
    table = rows(*({"place": place, "effect": name, **effect.named("value", "ci")} for place, name in names))
    return _of_most("checkpoint", 8, table.set_index(["place", "effect"]))


EFFECTS: tuple[Say, ...] = (
    masked_recall, masked_lists, coverage, knocked_out, steered, repaired, by_a_rule, words, frames, rules, lens, settling, slopes,
    schedules, conditions, prose, kept, prepended, duplicates,
)  # fmt: skip
UPWARD: tuple[Say, ...] = (prepended, roles)
"""Those whose sentences claim one direction only."""


def told(say: Say, effect: Effect) -> list[str]:
    return [one.text if isinstance(one, Finding) else one for one in say(effect)]


def about(say: Say) -> list[int]:
    """The places of the sentences that the effect appears in: those that say something else of another effect."""
    more, less = told(say, MORE), told(say, LESS)
    assert len(more) == len(less)
    return [place for place, (a, b) in enumerate(zip(more, less, strict=True)) if a != b]


@pytest.mark.parametrize("say", EFFECTS, ids=lambda say: say.__name__)
def test_an_effect_whose_interval_holds_nothing_is_said_to_be_not_shown(say: Say) -> None:
    places = about(say)
    assert places
    for effect in (NOTHING, NO_INTERVAL):
        for place in places:
            sentence = told(say, effect)[place]
            assert UNDECIDED.search(sentence) or (effect is NO_INTERVAL and say is coverage), sentence
            assert "nan" not in sentence
            assert not (effect is NO_INTERVAL and "contains 0" in sentence and say not in (conditions, kept)), sentence


@pytest.mark.parametrize("say", [say for say in EFFECTS if say not in UPWARD], ids=lambda say: say.__name__)
def test_an_effect_to_either_side_is_not_held_back(say: Say) -> None:
    for place in about(say):
        for effect in (MORE, LESS):
            assert not re.search(r"not shown|none shown", told(say, effect)[place]), told(say, effect)[place]


@pytest.mark.parametrize("say", UPWARD, ids=lambda say: say.__name__)
def test_a_claim_of_one_direction_is_made_of_that_direction_only(say: Say) -> None:
    for effect, shown in ((MORE, True), (LESS, False), (NOTHING, False), (NO_INTERVAL, False)):
        (sentence,) = told(say, effect)
        assert bool(UNDECIDED.search(sentence)) != shown, sentence


# ---------------------------------------------------------------------- verdicts in words


@pytest.mark.parametrize("effect", [NOTHING, LESS, NO_INTERVAL])
def test_no_verdict_of_a_join_claims_what_is_not_shown(effect: Effect) -> None:
    tables = of_wing(
        "joins", memory_change=effect.named("value", "ci"), critical_overlap=effect.named("difference"),
        attention_lift=Effect(*(1 + end for end in effect)).named("lift", "ci"),
    )  # fmt: skip
    difference = tables["attention_lift"]["heads"] == "top − random"
    tables["attention_lift"].loc[difference, ["lift", "ci_low", "ci_high"]] = list(effect)
    said = " ".join(told(lambda _: [*find_memory(tables), *find_critical(tables), *find_attention(tables, 1)], effect))
    claims = ["Retrieval heads carry", "coincide more", "more than their number", "and more than random"]
    if effect is not LESS:
        claims += ["coincide less", "less than their number", "and less than random"]
    assert not [claim for claim in claims if claim in said], said


@pytest.mark.parametrize("effect", [NOTHING, NO_INTERVAL])
def test_the_order_of_lists_is_claimed_by_intervals_and_not_by_medians(effect: Effect) -> None:
    tables = of_wing("verbatim_memory")
    medians = tables["repeat_surprisal"]
    settings = VerbatimMemory(conditions=("repeat", "permute", "novel"))
    assert any("repeat < permute < novel at every" in one.text for one in memory_findings(settings, tables))
    wide = medians.assign(ci_low=medians["value"] + 100 * effect.low, ci_high=medians["value"] + 100 * effect.high)
    (order,) = [
        one.text
        for one in memory_findings(settings, tables | {"repeat_surprisal": wide})
        if "permute < novel" in one.text
    ]
    assert "is not shown" in order


def test_a_cipher_and_a_value_and_a_layer_are_held_against_their_controls() -> None:
    course = {
        "kind": "cipher",
        "among": "words",
        "share": 1.0,
        "seen": "new",
        **Effect(0.3, 0.1, 0.5).named("gap_nats", "ci"),
    }
    ends = rows(
        {**course, "position_low": 0, "position_high": 16},
        {**course, "position_low": 64, "position_high": 128, "gap_nats": 0.2},
    )
    cipher = {**course, "seen": "any", "is_changed": True}
    assert (
        "not shown to fall"
        in list(_of_ciphers({"ciphers": rows(cipher, course | {"is_changed": True}), "course": ends}))[-1].text
    )
    known = [
        {"instruction": "none", "in_window": True, "null": null, "n": 9, **effect.named("value", "ci")}
        for null, effect in (("none", NOTHING), ("another year", NOTHING), ("random walk", NOTHING))
    ]
    assert "not shown to be known" in _of_values(rows(*known))[0].text
    carriers = [
        {
            "learning_rate": 1e-3,
            "measure": "recall",
            "control": control,
            "taken_back": "layer 1",
            **NOTHING.named("value", "ci"),
        }
        for control in (False, True)
    ]
    assert "not shown to be more" in _of_layers(rows(*carriers))[0].text
