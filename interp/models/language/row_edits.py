"""Other rows of the embedding for chosen tokens, in each sequence of a batch, on the way in, on the way out, or both.

The weights stay as they are: what the embedding hands on and what the language-model head computes is replaced, so that tied
embeddings can be changed on one side alone. Where two open edits name one token, the inner one counts; a token takes the row
that another one has in the model, never one that an edit has put there.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.errors import ArgumentError, UserError, check_choice
from interp.models.language.attention import AttentionCall, Barred
from interp.models.language.hooks import HOOKS_ATTRIBUTE, AttentionHooks, EditPhase, Phase
from interp.models.language.wrapped import WrappedModel

Side = Literal["input", "output", "both"]


@dataclass(eq=False)
class RowEdit:
    """Gives tokens other rows: those of other tokens (`rows` are ids), or vectors of the width of the embedding.

    A first axis of 1 changes every sequence alike; otherwise each row of the batch has tokens and rows of its own. With the row
    of another token comes that token's output bias, where there is one; vectors leave the bias as it is.
    Raises ArgumentError for shapes that do not fit, a token that is named twice, and vectors that are not finite.
    """

    ids: Tensor
    rows: Tensor
    """Ids [row or 1, token], or vectors [row or 1, token, residual]."""
    side: Side = "both"
    phase: EditPhase = field(default="both", init=False)
    n_embedded: int = field(default=0, init=False)
    """Tokens that went through the embedding while the edit was open."""
    n_predicted: int = field(default=0, init=False)
    """Places whose next token was predicted while the edit was open."""

    def __post_init__(self) -> None:
        """Checks the arguments."""
        check_choice("side", self.side, get_args(Side))
        swaps = not self.rows.is_floating_point()
        if self.ids.ndim != 2 or not self.ids.numel() or self.ids.is_floating_point():
            raise ArgumentError("Tokens to be changed are ids [row or 1, token]: name at least one.")
        if self.rows.shape[:2] != self.ids.shape or self.rows.ndim != (2 if swaps else 3):
            raise ArgumentError(
                f"{list(self.ids.shape)} tokens cannot take rows {list(self.rows.shape)}: give one id, or one vector, for each token."
            )
        if (self.ids.sort(dim=1).values.diff(dim=1) == 0).any():
            raise ArgumentError("A token is named twice in one sequence: give it one row.")
        if not swaps and not bool(self.rows.isfinite().all()):
            raise ArgumentError("Rows of an embedding are finite numbers: these are not.")

    # ------------------------------------------------------------------ what an open edit is asked

    @property
    def n_rows(self) -> int:
        """How many sequences have rows of their own; 1 for all alike."""
        return len(self.ids)

    def check(self, n_rows: int) -> None:
        """Raises UserError unless the edit has one sequence, or as many as the batch."""
        if len(self.ids) not in (1, n_rows):
            raise UserError(
                f"The edit has rows for {len(self.ids)} sequences and the batch has {n_rows}: give one set of rows, or one for each."
            )

    def applies(self, layer: int, phase: Phase | None) -> bool:
        """Returns False: no head is changed."""
        return False

    def evened(self, call: AttentionCall) -> None:
        """Returns None."""

    def barred(self, call: AttentionCall) -> Barred | None:
        """Returns None."""

    def replaced(
        self, call: AttentionCall, output: Float[Tensor, "row query head dim"]
    ) -> Float[Tensor, "row query head dim"]:
        """Returns the outputs as they are."""
        return output

    def check_met(self) -> None:
        """Raises UserError when something was predicted and no token went through the embedding: the edit did nothing there."""
        if self.side != "output" and self.n_predicted and not self.n_embedded:
            raise UserError(
                "No token went through the embedding while its rows were changed, so nothing changed on the way in: read from "
                "input_ids, not from inputs_embeds."
            )

    # ------------------------------------------------------------------ what it does

    def embedded(
        self,
        module: nn.Module,
        tokens: Int[Tensor, "row token"],
        rows: Int[Tensor, " row"],
        output: Float[Tensor, "row token residual"],
    ) -> Float[Tensor, "row token residual"]:
        """Returns what the embedding shall hand on for the tokens of some rows of the batch."""
        self.n_embedded += tokens.numel()
        if self.side == "output":
            return output
        ids, given = self._of(rows, tokens.device)
        places = torch.full((len(ids), int(_table(module).shape[0])), -1, device=tokens.device)
        places.scatter_(1, ids, torch.arange(ids.shape[1], device=tokens.device).expand_as(ids))
        place = places.expand(len(tokens), -1).gather(1, tokens)
        named = place >= 0
        if not named.any():
            return output
        place = place.clamp(min=0)
        if given.is_floating_point():
            given = given.expand(len(tokens), -1, -1).to(output)
            new = given.gather(1, place[:, :, None].expand(-1, -1, given.shape[-1])) * _scale(module)
        else:
            new = module.forward(torch.where(named, given.expand(len(tokens), -1).gather(1, place), tokens))
        return torch.where(named[:, :, None], new, output)

    def predicted(
        self,
        module: nn.Module,
        hidden: Float[Tensor, "row kept residual"],
        rows: Int[Tensor, " row"],
        own: Float[Tensor, "row kept vocabulary"],
        output: Float[Tensor, "row kept vocabulary"],
    ) -> Float[Tensor, "row kept vocabulary"]:
        """Returns the logits, given the model's own and those that the edits opened before have left."""
        self.n_predicted += hidden.shape[0] * hidden.shape[1]
        if self.side == "input":
            return output
        ids, given = self._of(rows, output.device)
        every = ids[:, None].expand(len(hidden), hidden.shape[1], -1)
        if given.is_floating_point():
            new = hidden @ given.to(hidden).mT
            bias: Any = getattr(module, "bias", None)
            if bias is not None:
                new = new + bias[ids][:, None]
        else:
            new = own.gather(2, given[:, None].expand(len(hidden), hidden.shape[1], -1))
        return output.scatter(2, every, new.to(output))

    def _of(self, rows: Int[Tensor, " row"], device: torch.device) -> tuple[Tensor, Tensor]:
        """The tokens and rows of some rows of the batch, on a device."""
        if len(self.ids) == 1:
            return self.ids.to(device), self.rows.to(device)
        here = rows.to(self.ids.device)
        return self.ids[here].to(device), self.rows[here].to(device)


# ---------------------------------------------------------------------- where it acts


def watch_rows(model: WrappedModel, edit: RowEdit) -> None:
    """Lets edits act on the embedding and the language-model head of a model, if they do not yet.

    Raises ArgumentError for tokens and widths that the embedding does not have, UserError for a model that looks tokens up in a
    second table, and for one without a head where the output is changed.
    """
    embedding, head = model.hf.get_input_embeddings(), model.hf.get_output_embeddings()
    _check_fits(model, edit, embedding, head)
    for module, hook in ((embedding, _embedded), (head, _predicted)):
        if module is None:
            continue
        known = HOOKS_ATTRIBUTE in vars(module)
        setattr(module, HOOKS_ATTRIBUTE, model.hooks)  # a copy of a model goes by hooks of its own
        if not known:
            module.register_forward_hook(hook)


def _check_fits(model: WrappedModel, edit: RowEdit, embedding: Any, head: Any) -> None:
    name, text = model.identity.name, model.hf.config.get_text_config(decoder=True)
    if getattr(text, "hidden_size_per_layer_input", None):
        raise UserError(
            f"{name} looks every token up in a second table (per-layer embeddings), which would keep its row: name another model."
        )
    if head is None and edit.side != "input":
        raise UserError(f"{name} has no language-model head whose rows could be changed: use side='input'.")
    swaps = not edit.rows.is_floating_point()
    largest = max(int(edit.ids.max()), int(edit.rows.max()) if swaps else 0)
    smallest = min(int(edit.ids.min()), int(edit.rows.min()) if swaps else 0)
    n_rows = min(
        int(getattr(module, "out_features", _table(module).shape[0]))
        for side, module in (("input", embedding), ("output", head))
        if edit.side in (side, "both")
    )  # some embeddings have rows for pictures or sounds that are never written
    if smallest < 0 or largest >= n_rows:
        raise ArgumentError(
            f"{name} has rows for the tokens 0 to {n_rows - 1}, not for {largest if largest >= n_rows else smallest}."
        )
    widths = {
        "input": int(_table(embedding).shape[1]),
        "output": None if head is None else int(getattr(head, "in_features", _table(head).shape[1])),
    }
    for side, width in widths.items():
        if not swaps and edit.side in (side, "both") and edit.rows.shape[2] != width:
            raise ArgumentError(
                f"A row of the {side} embedding of {name} has {width} numbers, not {edit.rows.shape[2]}: give vectors of that width."
            )


def _table(module: Any) -> Tensor:
    return module.weight


def _scale(module: Any) -> float:
    """What an embedding multiplies its rows by (Gemma 3 does that in the module itself)."""
    if type(module).forward is nn.Embedding.forward:
        return 1.0
    ids = torch.arange(min(16, len(module.weight)), device=module.weight.device)
    made, own = module.forward(ids).double(), module.weight[ids].double()
    scale = float((made * own).sum() / own.square().sum())
    if not torch.allclose(made, scale * own, rtol=0.02, atol=0.02 * float(made.abs().max())):
        raise UserError(f"{type(module).__name__} transforms its rows before it uses them: give ids, not vectors.")
    return scale


def _acting(module: nn.Module, n_rows: int, device: torch.device) -> tuple[list[RowEdit], Int[Tensor, " row"]]:
    """The edits of rows that are open in the pass under way, in the order they were opened, and which rows of the batch it reads."""
    hooks: AttentionHooks = getattr(module, HOOKS_ATTRIBUTE)
    here = hooks.begin() if hooks.current is None else hooks.current
    edits = [edit for edit in here.edits if isinstance(edit, RowEdit)]
    rows = torch.arange(n_rows, device=device) if here.rows is None else here.rows
    if here.rows is None:
        for edit in edits:
            edit.check(n_rows)
    return edits, rows


def _embedded(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    tokens: Tensor = inputs[0]
    edits, rows = _acting(module, len(tokens), tokens.device)
    for edit in edits:
        output = edit.embedded(module, tokens, rows, output)
    return output


def _predicted(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    hidden: Tensor = inputs[0]
    if hidden.ndim != 3:  # states that a lens reads out, of one text or of several depths: no axis says whose they are
        hidden = hidden.reshape(1, -1, hidden.shape[-1])
    edits, rows = _acting(module, len(hidden), hidden.device)
    own = changed = output.reshape(*hidden.shape[:2], output.shape[-1])
    for edit in edits:
        changed = edit.predicted(module, hidden, rows, own, changed)
    return changed.reshape(output.shape)
