"""What a verbatim-memory run measures: cells of list length, context and intervening text, and the trials in each.

And what each unit reads, counted with the model's tokenizer. Imports no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from interp.experiments.experiment import Work, WorkUnit, total
from interp.heads.kinds import GIVEN
from interp.models.identity import HeadGeometry, ModelFacts
from probes.verbatim_memory.lists import FirstList, first_lists, second_list
from probes.verbatim_memory.settings import RUN_SETS, Settings

if TYPE_CHECKING:
    from interp.models.language.model import LanguageModel
    from interp.tables import Tables
    from probes.verbatim_memory.heads import Mask

BASE_LISTS_PER_UNIT = 8
"""Base lists read together: enough rows for one batch, few enough to lose when a run is killed."""

MASK_KS = (2, 5, 10, 20)
MASK_SHARE = 0.2
"""The default numbers of silent heads stop at this share of a model's heads."""

Between = tuple[str, int]
"""A context and how many paragraphs of it stand between the lists."""

FLOAT32 = "float32"
"""The variant that reads some trials again in full precision, beside a model in half precision."""


@dataclass(frozen=True)
class ListUnit(WorkUnit):
    """Some base lists of one pool and length, in all rotations, with every intervening text and every second list."""

    variant: str
    pool: str
    list_length: int
    base_lists: tuple[int, ...]
    betweens: tuple[Between, ...]
    revision: str | None = None
    """The checkpoint to read with, where it is not the model's own."""
    exact: bool = False
    """Whether some nouns get the exact probability too, after the first text between."""


@dataclass(frozen=True)
class LooksUnit(WorkUnit):
    """The attention of heads when some of the longest lists are repeated."""

    base_lists: tuple[int, ...]


@dataclass(frozen=True)
class MaskUnit(WorkUnit):
    """Some of the longest lists, each read under every mask."""

    base_lists: tuple[int, ...]
    masks: "tuple[Mask, ...]"


def plan_units(settings: Settings, facts: ModelFacts, measured: "Tables") -> Sequence[WorkUnit]:
    """Returns the units of the model itself, of its nulls and checkpoints (shortest text between only), and of masks.

    Masks are planned once it is known where heads look.
    """
    units: list[WorkUnit] = []
    lengths = sorted(
        settings.list_lengths, reverse=True
    )  # the longest texts first: what does not fit is refused at once
    for pool in settings.pools:
        for length in lengths:
            betweens = _betweens(settings, length == lengths[0])
            of_model = _list_units(settings, f"{pool}-n{length}", "none", pool, length, betweens)
            units += [replace(unit, exact=length == lengths[0]) for unit in of_model]
    if facts.identity.dtype != FLOAT32:
        units += _main_units(settings, FLOAT32, lengths[-1:])[:1]
    for null in settings.nulls:
        units += _main_units(settings, null, lengths)
    for revision in settings.revisions:
        units += _main_units(settings, f"revision {revision}", lengths, revision)
    if settings.head_sets and facts.geometry is not None:
        units += _mask_units(settings, facts, measured)
    return units


def _main_units(
    settings: Settings, variant: str, lengths: Sequence[int], revision: str | None = None
) -> list[ListUnit]:
    """The first pool after the shortest intact text."""
    main = (("intact", settings.intervening[0]),)
    name = "".join(letter if letter.isalnum() else "-" for letter in variant.lower())
    return [
        unit
        for length in lengths
        for unit in _list_units(settings, f"{name}-n{length}", variant, settings.pools[0], length, main, revision)
    ]


def _list_units(
    settings: Settings,
    name: str,
    variant: str,
    pool: str,
    length: int,
    betweens: tuple[Between, ...],
    revision: str | None = None,
) -> list[ListUnit]:
    return [
        ListUnit(f"{name}-{hand[0]:02d}", variant, pool, length, hand, betweens, revision)
        for hand in hands_of(settings.n_base_lists)
    ]


def _mask_units(settings: Settings, facts: ModelFacts, measured: "Tables") -> list[WorkUnit]:
    from interp.heads.given import heads_of, sizes_for
    from probes.verbatim_memory.heads import plan_masks, ranked_by_look, ranked_by_run

    hands = hands_of(settings.n_base_lists)
    units: list[WorkUnit] = [LooksUnit(f"looks-{hand[0]:02d}", hand) for hand in hands]
    attention = measured["list_attention"]
    if attention["base_list"].nunique() < settings.n_base_lists:
        return units
    given = settings.given(facts)
    from_run = ranked_by_run(settings.heads_from) if settings.heads_from and given is None else {}
    rankings = {
        name: from_run[name] if name in RUN_SETS else ranked_by_look(attention, name)
        for name in settings.head_sets
        if name != GIVEN
    }
    assert facts.geometry is not None
    ks = settings.mask_k or default_mask_ks(facts.geometry)
    masked = partial(plan_masks, draws=settings.mask_draws, n_heads=facts.geometry.n_heads, seed=settings.seed)
    masks = masked(rankings, ks=ks)
    if given is not None:
        masks += masked({GIVEN: heads_of(given)}, ks=sizes_for(given, ks))[1:]  # no mask is there already
    return units + [MaskUnit(f"masks-{hand[0]:02d}", hand, tuple(masks)) for hand in hands]


def default_mask_ks(geometry: HeadGeometry) -> tuple[int, ...]:
    """Returns the default numbers of heads to mask in a model of that size."""
    most = MASK_SHARE * geometry.n_heads_in_all
    return tuple(k for k in MASK_KS if k <= most) or (1,)


def _betweens(settings: Settings, longest: bool) -> tuple[Between, ...]:
    """Every length of list has the shortest text between; the longest lists have all texts and contexts."""
    found: list[Between] = [("intact", settings.intervening[0])]
    if longest:
        found += [("intact", length) for length in settings.intervening[1:]]
        middle = settings.intervening[-1]
        found += [
            (context, 0 if context == "short" else middle) for context in settings.contexts if context != "intact"
        ]
    return tuple(dict.fromkeys(found))


def hands_of(n_base_lists: int) -> list[tuple[int, ...]]:
    """Returns the base lists that are read together, unit by unit."""
    bases = range(n_base_lists)
    return [tuple(bases[first : first + BASE_LISTS_PER_UNIT]) for first in range(0, n_base_lists, BASE_LISTS_PER_UNIT)]


# ---------------------------------------------------------------------- what units read


def expected_units(settings: Settings, model: "LanguageModel", measured: "Tables") -> Sequence[WorkUnit]:
    """Returns the units of the plan; until the heads' attention is measured, masks use placeholder heads."""
    from probes.verbatim_memory.heads import plan_masks

    units = list(plan_units(settings, model.facts, measured))
    if not settings.head_sets or model.facts.geometry is None or any(isinstance(unit, MaskUnit) for unit in units):
        return units
    geometry = model.geometry
    ks = settings.mask_k or default_mask_ks(geometry)
    heads = [(layer, head) for head in range(geometry.n_heads) for layer in geometry.layers]
    step = max(1, len(heads) // (len(settings.head_sets) + 1))
    rankings = {name: [*heads[step * i :], *heads[: step * i]] for i, name in enumerate(settings.head_sets)}
    masks = plan_masks(rankings, ks=ks, draws=settings.mask_draws, n_heads=geometry.n_heads, seed=settings.seed)
    return [*units, *(MaskUnit(f"masks-{hand[0]:02d}", hand, tuple(masks)) for hand in hands_of(settings.n_base_lists))]


def work_of(settings: Settings, model: "LanguageModel", unit: WorkUnit) -> Work | None:
    """Returns what a unit reads and holds. Nothing is written; other spellings of exact probabilities are not counted."""
    from probes.verbatim_memory.trials import whole_trials

    if isinstance(unit, ListUnit):
        firsts = first_lists(settings, unit.pool, unit.list_length)
        of_unit = [first for first in firsts if first.base_list in unit.base_lists]
        batches = [of_unit[i : i + settings.batch_trials] for i in range(0, len(of_unit), settings.batch_trials)]
        return total(_batch(settings, model, unit, batch, firsts) for batch in batches)
    if isinstance(unit, LooksUnit):
        lengths = [len(trial.ids) for _, trial in whole_trials(settings, model, unit.base_lists, ("repeat",))]
        return Work(tokens_read=len(lengths) * max(lengths), tokens_held=len(lengths) * max(lengths))
    return _masks(settings, model, unit) if isinstance(unit, MaskUnit) else None


def _batch(
    settings: Settings,
    model: "LanguageModel",
    unit: ListUnit,
    firsts: Sequence[FirstList],
    everyone: Sequence[FirstList],
) -> Work:
    """Rows read preface and first list once, go on through each text between, and from its end through every second list."""
    from probes.verbatim_memory.trials import (
        TAIL_WORDS,
        common_beginning,
        encode_list,
        encode_preface,
        encode_text,
        last_words,
        read_texts,
    )

    tokenizer, texts = model.tokenizer, read_texts(settings.texts)

    def longest(lists: Sequence[Sequence[str]]) -> int:
        return max(len(encode_list(tokenizer, nouns).ids) for nouns in lists)

    each_row = held = 0
    for preface in ("intact", "short"):
        betweens: list[Between] = [one for one in unit.betweens if (one[0] == "short") == (preface == "short")]
        if not betweens:
            continue
        first = longest([first.nouns for first in firsts])
        begun = first + len(encode_preface(tokenizer, texts.before(preface), settings.bos, model.identity.name))
        each_row += begun
        last: tuple[int, ...] = ()
        for context, n in betweens:
            text = texts.between(context, n, settings.seed)
            ids = encode_text(tokenizer, text)
            each_row += len(ids) - min(common_beginning(last, ids), last_words(tokenizer, text, TAIL_WORDS)[0][1][0])
            for condition in settings.conditions:
                each_row += longest([second_list(condition, one, everyone, settings.seed) for one in firsts])
            held, last = max(held, begun + len(ids) + first), ids
    return Work(tokens_read=len(firsts) * each_row, tokens_held=len(firsts) * held)


def _masks(settings: Settings, model: "LanguageModel", unit: MaskUnit) -> Work:
    """A trial up to its second list once, and the rest under every set of silent heads; or all of it under each."""
    from probes.verbatim_memory.heads import ROWS_AT_ONCE
    from probes.verbatim_memory.trials import whole_trials

    top: "list[Mask]" = [mask for mask in unit.masks if mask.control != "random"]
    work = Work()
    for condition, trial in whole_trials(settings, model, unit.base_lists, ("repeat", "novel")):
        n_edits = len({mask.heads for mask in (unit.masks if condition == "repeat" else top)})
        shared = trial.starts[1] - 1 if settings.mask_phase == "second_list" else 0
        own = len(trial.ids) - shared
        held = shared + min(n_edits, ROWS_AT_ONCE) * own
        n_readings = -(-n_edits // ROWS_AT_ONCE)
        work += Work(tokens_read=n_readings * shared + n_edits * own, tokens_held=held)
    return work
