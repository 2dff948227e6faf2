"""What is open on one model, edits and recordings, and where the forward pass under way stands."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import UserError
from interp.models.language.attention import AttentionCall, Barred, Segment
from interp.models.language.cache import RowCache

HOOKS_ATTRIBUTE = "interp_hooks"

Phase = Literal["prefill", "decode"]
EditPhase = Literal["both", "prefill", "decode"]


@runtime_checkable
class Edit(Protocol):
    """A change to the heads of a model: see interp.models.language.edits. A part that does not act returns None, or its argument.

    The parts of all open edits act together, whatever their order: first uniform attention, then what is barred, at last
    what replaces an output. Where two replace one head's output, the one opened last counts.
    """

    @property
    def phase(self) -> EditPhase:
        """In which phase this edit acts."""
        ...

    def check(self, n_rows: int) -> None:
        """Raises UserError where the edit does not fit a batch of that many rows."""
        ...

    def applies(self, layer: int, phase: Phase | None) -> bool:
        """Whether this edit acts in that layer and phase (None: not known, and no open edit asks)."""
        ...

    def evened(self, call: AttentionCall) -> Bool[Tensor, "row_or_1 head"] | None:
        """Returns the heads that attend equally to every key they may see."""
        ...

    def barred(self, call: AttentionCall) -> Barred | None:
        """Returns the pairs of query and key that some heads may not use."""
        ...

    def replaced(
        self, call: AttentionCall, output: Float[Tensor, "row query head dim"]
    ) -> Float[Tensor, "row query head dim"]:
        """Returns the outputs that the output projection shall see."""
        ...


@runtime_checkable
class CallEdit(Edit, Protocol):
    """An edit that hands the kernel another call: other keys may be read, or scores are changed before the softmax."""

    def rewritten(self, call: AttentionCall) -> AttentionCall:
        """Returns the call that the kernel shall compute, given the one that all other edits leave."""
        ...


@runtime_checkable
class Observer(Protocol):
    """Something that looks at attention calls: see interp.models.language.recording."""

    def check(self, n_rows: int) -> None:
        """Raises UserError where it does not fit a batch of that many rows."""
        ...

    def look(self, call: AttentionCall, output: Float[Tensor, "row query head dim"]) -> None:
        """Reads what it wants of one call and what goes into the output projection."""
        ...


@dataclass
class Pass:
    """One forward pass: where its rows stand, and the edits and recordings that were open when it began."""

    edits: tuple[Edit, ...] = ()
    observers: tuple[Observer, ...] = ()
    phase: Phase | None = "prefill"
    starts: Int[Tensor, " row"] | None = None
    """Position of each row's first query token."""
    rows: Int[Tensor, " row"] | None = None
    """Which row of its batch each row of the pass is."""
    cache: RowCache | None = None
    """The cache of a pass of interp.models.language.forward, which places keys itself."""
    n_tokens: int = 0
    """Tokens of a text up to the end of the pass, in a pass of `hf` with keys kept before."""
    spans: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By layer, how many keys the pass sees and the position of the first, in a pass of `hf` with keys kept before."""

    @property
    def is_watched(self) -> bool:
        """Whether anything is open."""
        return bool(self.edits or self.observers)

    @property
    def trunk(self) -> dict[int, Segment] | None:
        """Keys and values, by layer, that all rows share (interp.models.language.prefix)."""
        return self.cache.trunk if self.cache is not None else None

    def first_key(self, layer: int, n_keys: int) -> int:
        """Returns the position of the first of the keys that a layer was given.

        Raises UserError when they are not the keys that the cache announced.
        """
        if not self.spans:
            return 0
        expected, first = self.spans.get(layer, (self.n_tokens, 0))
        if expected != n_keys:
            raise UserError(
                f"The cache announced {expected} keys and gave {n_keys}, so their positions are not known: read with "
                "model.extend or model.generate while edits or recordings are open."
            )
        return first

    def acting(self, layer: int) -> list[Edit]:
        """Returns the edits that act in a layer, in the order they were opened."""
        return [edit for edit in self.edits if edit.applies(layer, self.phase)]

    def edited(self, call: AttentionCall) -> AttentionCall:
        """Returns the call that the kernel shall compute under all edits: evened heads, barred pairs, at last whole calls."""
        edits = self.acting(call.layer)
        for heads in [heads for edit in edits if (heads := edit.evened(call)) is not None]:
            chosen = heads[:, :, None, None]
            mask = call.mask
            if mask is not None and mask.dtype != torch.bool:  # a bias would keep the head from attending equally
                unseen = torch.zeros_like(mask).masked_fill(~call.visible(call.columns()), torch.finfo(mask.dtype).min)
                mask = torch.where(chosen, unseen, mask)
            call = replace(call, query=call.query.masked_fill(chosen, 0.0), mask=mask)
        barred = tuple(pairs for edit in edits if (pairs := edit.barred(call)) is not None)
        call = replace(call, barred=barred) if barred else call
        for edit in edits:
            if isinstance(edit, CallEdit):
                call = edit.rewritten(call)
        return call


NOTHING_OPEN = Pass()


class AttentionHooks:
    """The edits and recordings open on one model, and the pass under way in each thread.

    What is open belongs to the thread that opened it: no other thread may read or open anything until it is closed. A pass
    goes by what was open when it began.
    """

    def __init__(self) -> None:
        self.edits: list[Edit] = []
        self.observers: list[Observer] = []
        self._owners: dict[int, int] = {}
        self._thread = threading.local()

    def __deepcopy__(self, memo: dict[int, object]) -> "AttentionHooks":
        """Returns new hooks: on a copy of a model nothing is open."""
        return AttentionHooks()

    @property
    def current(self) -> Pass | None:
        """The pass under way in this thread."""
        return getattr(self._thread, "current", None)

    @current.setter
    def current(self, value: Pass | None) -> None:
        self._thread.current = value

    @property
    def waiting(self) -> tuple[Pass, AttentionCall, Tensor] | None:
        """The last call of this thread whose output has not reached the output projection, and that output."""
        return getattr(self._thread, "waiting", None)

    @waiting.setter
    def waiting(self, value: tuple[Pass, AttentionCall, Tensor] | None) -> None:
        self._thread.waiting = value

    def check_arrived(self, ended: Pass) -> None:
        """Raises UserError when outputs of a pass never came to the output projection: edits would not have acted."""
        waiting = self.waiting
        self.waiting = None
        if waiting is not None and waiting[0] is ended:
            raise UserError(
                "The heads' outputs do not go into the layer that was taken for the output projection, so edits and "
                "recordings cannot act on this model: close them, or see docs/adding_a_model.md."
            )

    @contextmanager
    def opened(self, edit: Edit | None = None, observer: Observer | None = None) -> Iterator[None]:
        """Keeps an edit or a recording open in this thread."""
        self._check_thread((*self.edits, *self.observers))
        if edit is not None:
            self.edits.append(edit)
        if observer is not None:
            self.observers.append(observer)
        mine = [id(thing) for thing in (edit, observer) if thing is not None]
        self._owners |= dict.fromkeys(mine, threading.get_ident())
        try:
            yield
        finally:
            for thing in mine:
                del self._owners[thing]
            if edit is not None:
                self.edits.remove(edit)
            if observer is not None:
                self.observers.remove(observer)

    def begin(self) -> Pass:
        """Returns a new pass with what is open now.

        Raises UserError when another thread opened it.
        """
        if getattr(self._thread, "closed", False) or not (self.edits or self.observers):
            return Pass()
        begun = Pass(tuple(self.edits), tuple(self.observers))
        self._check_thread((*begun.edits, *begun.observers))
        return begun

    @contextmanager
    def reading(self, begun: Pass | None) -> Iterator[None]:
        """Makes a pass (or none) the one under way in this thread."""
        before = self.current
        self.current = begun
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Lets this thread's passes inside the `with` go unseen and unchanged: they are not the user's.

        What other threads have open stays open for them, and what is open here is open again afterwards.
        """
        was_closed, waiting = getattr(self._thread, "closed", False), self.waiting
        self._thread.closed, self.waiting = True, None
        try:
            with self.reading(None):
                yield
        finally:
            self._thread.closed, self.waiting = was_closed, waiting

    def _check_thread(self, opened: tuple[Edit | Observer, ...]) -> None:
        here = threading.get_ident()
        if any(self._owners.get(id(thing), here) != here for thing in opened):
            raise UserError(
                "Another thread has edits or recordings open on this model: read and edit it in one thread, or load it "
                "once for each thread."
            )


def check_begun(begun: Pass, n_rows: int) -> None:
    """Raises UserError where an open edit or recording does not fit the rows or the phase of a pass."""
    for thing in (*begun.edits, *begun.observers):
        thing.check(n_rows)
    if begun.phase is None and any(edit.phase != "both" for edit in begun.edits):
        raise UserError(
            "This way of reading mixes the prompt and new tokens or does not say which it reads, so an edit with a phase "
            'cannot act: open it with phase="both", or use model.generate.'
        )


def standing(n_rows: int, start: int, device: torch.device) -> tuple[Int[Tensor, " row"], Int[Tensor, " row"]]:
    """Returns starts and rows of a level batch."""
    return torch.full((n_rows,), start, device=device), torch.arange(n_rows, device=device)
