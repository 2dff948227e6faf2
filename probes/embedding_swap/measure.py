"""From a model and a unit to the measured tables."""

import pandas as pd

from interp.experiments.experiment import WorkUnit
from interp.models.language.model import LanguageModel
from probes.embedding_swap.ciphers import measure_cipher
from probes.embedding_swap.frames import measure_frames
from probes.embedding_swap.pieces import measure_pieces
from probes.embedding_swap.plan import CipherUnit, FramesUnit, PiecesUnit
from probes.embedding_swap.settings import Settings


def measure_unit(model: LanguageModel, unit: WorkUnit, settings: Settings) -> dict[str, pd.DataFrame]:
    """Returns the unit's rows of the tables it fills.

    Raises UserError as the parts do.
    """
    if isinstance(unit, CipherUnit):
        return measure_cipher(model, unit, settings)
    if isinstance(unit, FramesUnit):
        return measure_frames(model, unit, settings)
    assert isinstance(unit, PiecesUnit)
    return measure_pieces(model, unit, settings)
