"""What a kv_policies run measures: heads first, then every text under every policy, budget and protection. No torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from interp.errors import ArgumentError
from interp.experiments.experiment import Work, WorkUnit
from interp.models.identity import HeadGeometry, ModelFacts
from interp.retention.policies.catalogue import build, entry_of
from probes.kv_policies.settings import Material, Protection, Scope, Settings

if TYPE_CHECKING:
    from interp.models.language.model import LanguageModel
    from interp.tables import Tables

KvHead = tuple[int, int]
"""A layer and a key-value head in it."""
NEEDLES_PER_UNIT = 4
BOUNDARY_SHARE = 0.1
"""What `boundaries` protects at each end, as a share of the budget (2605.18053)."""


@dataclass(frozen=True)
class Condition:
    """One row of a batch: a policy under a budget and a protection, and which heads it spares."""

    policy: str
    protection: Protection
    budget: float
    heads: tuple[KvHead, ...] = ()
    head_set: str = "none"
    """Which heads these are: none, the best by a ranking, or random ones."""
    k: int = 0
    draw: int = 0


@dataclass(frozen=True)
class HeadsUnit(WorkUnit):
    """Needles on which retrieval heads are found, or (without numbers) repeated random tokens for induction and echo."""

    numbers: tuple[int, ...]


@dataclass(frozen=True)
class DynamicsUnit(WorkUnit):
    """One text of prose, of which it is asked how attention moves: stale keys, keys that come back, and forgetting."""

    number: int


@dataclass(frozen=True)
class TextUnit(WorkUnit):
    """One text under all conditions."""

    material: Material
    number: int
    scope: Scope
    conditions: tuple[Condition, ...]


def plan_units(settings: Settings, facts: ModelFacts, measured: "Tables") -> Sequence[WorkUnit]:
    """Returns the units that find heads, and once these are measured one unit for each text."""
    numbers = range(settings.needles, settings.needles + settings.finding_needles)
    found = [
        HeadsUnit(f"heads-{first:03d}", tuple(numbers[first : first + NEEDLES_PER_UNIT]))
        for first in range(0, len(numbers), NEEDLES_PER_UNIT)
    ]
    heads = [*found, HeadsUnit("heads-repeats", ())]
    moves = [DynamicsUnit(f"dynamics-{number:03d}", number) for number in range(settings.dynamics_texts)]
    units: list[WorkUnit] = [*heads, *moves]
    scores = measured["head_scores"]
    if set(scores["unit"]) < {unit.id for unit in heads}:
        return units
    from probes.kv_policies.heads import ranked_kv_heads

    assert facts.geometry is not None
    ranking = ranked_kv_heads(scores, settings.given(facts), facts.geometry)
    return [*units, *_text_units(settings, facts, ranking)]


def expected_units(settings: Settings, model: "LanguageModel", measured: "Tables") -> Sequence[WorkUnit]:
    """Returns the units of the plan; until heads are found, texts are planned with placeholder heads."""
    facts = model.facts
    units = plan_units(settings, facts, measured)
    if any(isinstance(unit, TextUnit) for unit in units):
        return units
    from probes.kv_policies.heads import ROLES, layers_acted_on

    layers = layers_acted_on(settings, model)
    heads = [(layer, head) for head in range(model.geometry.n_kv_heads) for layer in layers]
    return [*units, *_text_units(settings, facts, dict.fromkeys(ROLES, heads))]


def batches(model: "LanguageModel", n_rows: int, n_steps: int) -> Iterator[range]:
    """Yields which conditions are read together: as many as may have logits at once."""
    from interp.models.language.forward import LOGITS_AT_ONCE

    vocabulary = model.hf.config.get_text_config(decoder=True).vocab_size
    size = max(1, LOGITS_AT_ONCE // (n_steps * vocabulary))
    yield from (range(first, min(first + size, n_rows)) for first in range(0, n_rows, size))


def work_of(settings: Settings, model: "LanguageModel", unit: WorkUnit) -> Work:
    """Returns what a unit reads and holds: a prompt once, and what follows it once for every condition."""
    from interp.heads.finding import BLOCK_TOKENS, REPEATS
    from interp.models.tokens.encoding import beginning
    from probes.kv_policies.materials import build_text

    if isinstance(unit, TextUnit):
        text = build_text(settings, model, unit.material, unit.number, unit.scope)
        n_prompt, n_after, n_rows = len(text.prompt), len(text.continuation), len(unit.conditions)
        largest = max(len(rows) for rows in batches(model, n_rows, n_after))
        return Work(tokens_read=n_prompt + n_rows * n_after, tokens_held=n_prompt + largest * n_after)
    if isinstance(unit, DynamicsUnit):
        return Work(tokens_read=settings.prompt_tokens, tokens_held=settings.prompt_tokens)
    assert isinstance(unit, HeadsUnit)
    if not unit.numbers:
        n_tokens = len(beginning(model.tokenizer, settings.bos)) + BLOCK_TOKENS * REPEATS
        return Work(tokens_read=n_tokens, tokens_held=n_tokens)
    texts = [build_text(settings, model, "needles", number, "context_only") for number in unit.numbers]
    sizes = [len(text.prompt) + len(text.continuation) for text in texts]
    return Work(tokens_read=sum(sizes), tokens_held=max(sizes))


def _text_units(settings: Settings, facts: ModelFacts, ranking: dict[str, list[KvHead]]) -> Iterator[TextUnit]:
    assert facts.geometry is not None
    counts = {"prose": settings.prose_texts, "lists": settings.lists, "needles": settings.needles}
    plain = tuple(conditions_of(settings, facts, ranking))
    acted_on = replace(facts.geometry, only_in=tuple(sorted({layer for layer, _ in ranking["retrieval"]})))
    curve = tuple(restored_conditions(settings, acted_on, ranking["retrieval"]))
    for material in settings.materials:
        for scope in settings.scopes if material == "needles" else ("context_only",):
            is_asked = material == "needles" and scope == settings.scopes[0]
            for number in range(counts[material]):
                name = f"{material}-{number:03d}" + ("-asked" if scope == "context_and_question" else "")
                used = [one for one in plain if material == "needles" or one.protection != "needle"]
                yield TextUnit(name, material, number, scope, (*used, *(curve if is_asked else ())))


def conditions_of(settings: Settings, facts: ModelFacts, ranking: dict[str, list[KvHead]]) -> Iterator[Condition]:
    """Yields the full cache; every policy at every budget with the first protection; at the middle budget with the others."""
    from probes.kv_policies.heads import spared

    yield Condition("full", settings.protections[0], 1.0)
    for policy in settings.chosen(facts):
        wanted = entry_of(policy).heads
        heads = spared(wanted, ranking, settings.role_share)
        for protection, budget in _pairs(settings):
            yield Condition(policy, protection, budget, heads, wanted or "none", len(heads))


def _pairs(settings: Settings) -> Sequence[tuple[Protection, float]]:
    """The protections and budgets of every policy."""
    first, *others = settings.protections
    return [*((first, budget) for budget in settings.budgets), *((other, settings.main_budget) for other in others)]


def _smallest(settings: Settings) -> tuple[Protection, float]:
    """The protection and the budget of heads that are not restored."""
    return settings.protections[0], min(settings.budgets)


def restored_conditions(settings: Settings, geometry: HeadGeometry, ranking: Sequence[KvHead]) -> Iterator[Condition]:
    """Yields the curve: the smallest budget for all key-value heads but the k best, or k random ones in the same layers."""
    protection, budget = _smallest(settings)
    n_heads = len(geometry.layers) * geometry.n_kv_heads
    yield Condition("duo", protection, budget, (), "none", 0)
    for k in sorted({k for k in settings.restored_k if k <= n_heads // 2}):
        top = tuple(ranking[:k])
        yield Condition("duo", protection, budget, top, "best", k)
        for draw in range(settings.random_draws):
            heads = random_heads(top, geometry, (settings.seed, k, draw))
            yield Condition("duo", protection, budget, heads, "random", k, draw)


def random_heads(top: Sequence[KvHead], geometry: HeadGeometry, key: tuple[int, ...]) -> tuple[KvHead, ...]:
    """Returns as many random key-value heads, none of them in `top`: each from the layer of one of these, or the nearest with any left.

    A layer has few key-value heads, and all of them may be in `top` (see `interp.heads.sets.layer_matched`, which stays in its layers).
    """
    import numpy as np

    generator = np.random.default_rng(key)
    free = {
        layer: [head for head in range(geometry.n_kv_heads) if (layer, head) not in set(top)]
        for layer in geometry.layers
    }
    drawn = []
    for layer, _ in sorted(top):
        source = min((other for other in free if free[other]), key=lambda other: abs(other - layer))
        drawn.append((source, free[source].pop(int(generator.integers(len(free[source]))))))
    return tuple(sorted(drawn))


def protection_sizes(settings: Settings, protection: Protection, n_kept: int) -> tuple[int, int, bool]:
    """Returns how many first and last tokens a protection keeps, and whether it keeps the needle."""
    edge = int(BOUNDARY_SHARE * n_kept)
    sizes = {
        "none": (0, 0),
        "sinks": (settings.sinks, 0),
        "sinks_recent": (settings.sinks, settings.recent),
        "boundaries": (edge, edge),
        "needle": (settings.sinks, settings.recent),
    }
    return *sizes[protection], protection == "needle"


def check_conditions(settings: Settings, facts: ModelFacts) -> None:
    """Raises ArgumentError for a budget that is less than a key, than a policy's window, or than what is protected."""
    least = settings.n_kept(min(settings.budgets))
    if least < 1:
        raise ArgumentError(
            f"A budget of {min(settings.budgets):g} is less than one of {settings.prompt_tokens} keys: raise --budgets or --prompt-tokens."
        )
    _check_protections(settings, least)
    for text in settings.chosen(facts):
        if (needed := build(text).least) > least:
            raise ArgumentError(
                f"{text} keeps at least {needed} keys and a budget of {min(settings.budgets):g} keeps {least} of {settings.prompt_tokens}: "
                f"raise --budgets or --prompt-tokens, or leave {text} out of --policies."
            )
    _check_rooms(settings, facts)


def _check_rooms(settings: Settings, facts: ModelFacts) -> None:
    """Raises ArgumentError where what a policy always keeps and what is protected beside it do not fit a budget."""
    from interp.retention.contract import Setting, check_room

    pairs = _pairs(settings)
    for text, places in [*((text, pairs) for text in settings.chosen(facts)), ("duo", [_smallest(settings)])]:
        for protection, budget in places:
            n = settings.n_kept(budget)
            first, last, _ = protection_sizes(settings, protection, n)
            check_room(Setting(build(text), n, first, last), settings.prompt_tokens, ())


def _check_protections(settings: Settings, least: int) -> None:
    others = [material for material in settings.materials if material != "needles"]
    if "needle" in settings.protections and (
        (settings.protections[0] == "needle" and others) or "needles" not in settings.materials
    ):
        raise ArgumentError(
            f"The protection needle keeps the needle, which {' and '.join(others)} have not: name another protection first, or run "
            "--materials needles."
        )
    for protection in settings.protections:
        first, last, _ = protection_sizes(settings, protection, least)
        if protection == "boundaries" and not first:
            raise ArgumentError(
                f"boundaries protects a tenth of the budget at each end, and {min(settings.budgets):g} of {settings.prompt_tokens} tokens "
                f"is {least}: raise --budgets or --prompt-tokens to keep at least 10."
            )
        if first + last > least:
            raise ArgumentError(
                f"{protection} protects {first + last} tokens and a budget of {min(settings.budgets):g} keeps {least} of "
                f"{settings.prompt_tokens}: raise --budgets or --prompt-tokens, or lower --recent."
            )
