"""Surprisal of tokens: how unexpected each is after what precedes it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from interp.models.history import History
from interp.models.prefix import Prefix

if TYPE_CHECKING:
    from interp.models.language import LanguageModel

LOGITS_AT_ONCE = 2**26
"""Vocabulary scores held at one time (256 MB in float32): memory does not grow with text length times vocabulary."""


@torch.inference_mode()
def token_surprisal(
    model: "LanguageModel", ids: Sequence[Sequence[int]], prefix: Prefix | History | None = None
) -> Float[Tensor, "row token"]:
    """Returns -ln p(token | everything before it) in nats, float32 on the CPU.

    Each row's first token is read but not scored (NaN): without a prefix nothing stands before it, and with one (as many
    rows as ids; it reads on in place) give as first token the last one of the context. Shorter rows end in NaN.
    """
    if prefix is None:
        prefix = model.rows(len(ids), max(len(row) for row in ids))
    surprisals = torch.full((len(ids), max(len(row) for row in ids)), torch.nan)
    vocabulary = model.hf.config.get_text_config(decoder=True).vocab_size
    step = max(1, LOGITS_AT_ONCE // (len(ids) * vocabulary))
    for first in range(0, surprisals.shape[1], step):
        part = [list(row[first : first + step]) for row in ids]
        log_p = torch.log_softmax(model.extend(prefix, part, logits="all"), dim=-1)
        following = [list(row[first + 1 : first + 1 + len(read)]) for row, read in zip(ids, part, strict=True)]
        for row, targets in enumerate(following):
            index = torch.tensor(targets, dtype=torch.long, device=log_p.device)
            found = -log_p[row, : len(targets)].gather(-1, index[:, None]).squeeze(-1)
            surprisals[row, first + 1 : first + 1 + len(targets)] = found.cpu()
    return surprisals
