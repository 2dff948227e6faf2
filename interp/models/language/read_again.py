"""Texts of which nothing is kept but their tokens, or a state: read again with what follows."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import UserError
from interp.models.language.hooks import Phase
from interp.models.language.kept_logits import Kept, columns_to_keep, head_at
from interp.models.language.lstm import LSTMForCausalLM
from interp.models.language.prefix import History, same_edits
from interp.models.language.wrapped import WrappedModel


def read_again(
    model: WrappedModel, history: History, ids: Sequence[Sequence[int]], kept: Kept, phase: Phase
) -> Float[Tensor, "row kept vocabulary"]:
    """Reads each row on from its last kept state, or from its first token, and looks at the new tokens' columns only.

    Rows are padded on the right.
    Raises UserError where edits would act on tokens that were read without them, or in another phase.
    """
    _check_edits_again(model, history, phase)
    whole = [[*old, *new] for old, new in zip(history.ids, ids, strict=True)]
    carries_state = isinstance(model.hf, LSTMForCausalLM)
    if kept == "none" and not carries_state and not model.hooks.observers:  # read with what comes next
        history.ids = whole
        return torch.zeros((history.n_rows, 0, 0))
    starts = history.state_lengths
    unread = [row[start:] for row, start in zip(whole, starts, strict=True)]
    width = max(len(row) for row in unread)
    tokens = torch.tensor([row + [0] * (width - len(row)) for row in unread], device=model.device)
    before = torch.tensor(history.lengths)[:, None] - torch.tensor(starts)[:, None]
    columns = before + columns_to_keep(kept, [len(row) for row in ids], 0, [list(row) for row in ids])
    with head_at(model, columns.clamp(max=width - 1)):
        if carries_state:
            lengths = torch.tensor([len(row) for row in unread])
            output = model.hf(input_ids=tokens, state=history.last_states(), lengths=lengths)
        else:
            output = model.hf(input_ids=tokens, use_cache=False)
    history.ids = whole
    if carries_state:
        history.keep(output.state)
    return output.logits.float()


def _check_edits_again(model: WrappedModel, history: History, phase: Phase) -> None:
    edits = tuple(model.hooks.edits)
    begins = not any(history.lengths)
    by_phase = any(edit.phase != "both" for edit in edits)
    if (by_phase and not (begins and phase == "prefill")) or (not begins and not same_edits(edits, history.read_under)):
        raise UserError(
            f"{model.identity.name} reads every text whole each time, so an edit acts on all of a text or on nothing of it: open it "
            'before the first token, with phase="both".'
        )
    history.read_under = edits
