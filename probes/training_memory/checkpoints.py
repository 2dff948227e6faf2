"""The checkpoints that read texts with known duplicates: whether they are there and fit, and how much they will read."""

from typing import Any

from interp.errors import ArgumentError
from interp.experiments.experiment import Work
from interp.models.identity import ModelFacts
from interp.models.loading.language import load_outline, look_up
from interp.models.tokens.encoding import encode_piece
from probes.training_memory.copying import RANDOM_DRAWS
from probes.training_memory.duplicates import PLACES, encoded, known_texts
from probes.training_memory.plan import ROLES
from probes.training_memory.settings import Settings


def check_checkpoints(settings: Settings, facts: ModelFacts) -> None:
    """Raises UserError for texts that cannot be read, a checkpoint that is not there, and a twin that does not fit."""
    known = known_texts(settings)
    for revision in settings.revisions:
        look_up(settings.model, dtype=facts.identity.dtype, revision=revision)
    twin = settings.twin
    heads = [facts]
    if twin is not None:
        heads.append(look_up(twin, dtype=facts.identity.dtype, revision=settings.twin_revision))
        own, other = (
            load_outline(name, dtype=facts.identity.dtype, revision=revision).tokenizer
            for name, revision in ((settings.model, settings.revision), (twin, settings.twin_revision))
        )
        if any(_ids(own, one.text) != _ids(other, one.text) for one in known):
            raise ArgumentError(
                f"--twin {twin} reads the texts as other tokens than {facts.name}: name a model with the same tokenizer."
            )
    for one in heads:
        if settings.heads_off and one.geometry is None:
            raise ArgumentError(f"{one.name} has no attention heads to switch off: add --heads-off 0.")


def work_of_reading(tokenizer: Any, settings: Settings) -> Work:
    """Returns what one checkpoint reads and writes."""
    texts = encoded(tokenizer, settings)
    times = 1 + len(ROLES) * (1 + RANDOM_DRAWS) * bool(settings.heads_off)
    rows = [
        context + length
        for one in texts
        for context in (0, settings.offset_tokens, settings.offset_tokens + len(one.ids))
        for length in (len(one.ids), len(one.foil), one.half)
    ]
    written = len(PLACES) * sum(len(one.ids) - one.half for one in texts)
    return Work(tokens_read=times * sum(rows), tokens_written=times * written, tokens_held=max(rows))


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(encode_piece(tokenizer, text, first=True).ids)
