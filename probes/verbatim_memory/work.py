"""What the units of a verbatim-memory run read, counted with the model's tokenizer before anything is measured."""

from collections.abc import Sequence

from interp.experiments.experiment import WorkUnit
from interp.experiments.work import Work, total
from interp.models.language.model import LanguageModel
from interp.tables import Tables
from probes.verbatim_memory.heads import ROWS_AT_ONCE, Mask, plan_masks
from probes.verbatim_memory.lists import FirstList, second_list
from probes.verbatim_memory.measure import whole_trials
from probes.verbatim_memory.plan import (
    Between,
    ListUnit,
    LooksUnit,
    MaskUnit,
    default_mask_ks,
    first_lists,
    hands_of,
    plan_units,
)
from probes.verbatim_memory.reading import TAIL_WORDS, common_beginning
from probes.verbatim_memory.settings import Settings
from probes.verbatim_memory.trials import encode_list, encode_preface, encode_text, last_words, read_texts


def expected_units(settings: Settings, model: LanguageModel, measured: Tables) -> Sequence[WorkUnit]:
    """Returns the units of the plan; until it is known where heads look, the masks are those of stand-ins."""
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


def work_of(settings: Settings, model: LanguageModel, unit: WorkUnit) -> Work | None:
    """Returns what a unit reads and holds. Nothing is written; other spellings of exact probabilities are not counted."""
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
    settings: Settings, model: LanguageModel, unit: ListUnit, firsts: Sequence[FirstList], everyone: Sequence[FirstList]
) -> Work:
    """Rows read preface and first list once, go on through each text between, and from its end through every second list."""
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


def _masks(settings: Settings, model: LanguageModel, unit: MaskUnit) -> Work:
    """A trial up to its second list once, and the rest under every set of silent heads; or all of it under each."""
    top: list[Mask] = [mask for mask in unit.masks if mask.control != "random"]
    work = Work()
    for condition, trial in whole_trials(settings, model, unit.base_lists, ("repeat", "novel")):
        n_edits = len({mask.heads for mask in (unit.masks if condition == "repeat" else top)})
        shared = trial.starts[1] - 1 if settings.mask_phase == "second_list" else 0
        own = len(trial.ids) - shared
        held = shared + min(n_edits, ROWS_AT_ONCE) * own
        n_readings = -(-n_edits // ROWS_AT_ONCE)
        work += Work(tokens_read=n_readings * shared + n_edits * own, tokens_held=held)
    return work
