"""The device that is checked: its name, its clock and its memory. A device without torch's counters has a clock alone."""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from benchmarks.tables import Machine
from interp.errors import ArgumentError

Result = TypeVar("Result")
GB = 1e9


@dataclass(frozen=True)
class Card:
    """A device and the precision of the weights on it."""

    device: torch.device
    dtype: torch.dtype

    @classmethod
    def find(cls, device: str, *, tiny: bool) -> "Card":
        """Returns the device of that name.

        Raises ArgumentError where there is no such device, and for real sizes on a processor.
        """
        place = torch.device(device)
        if place.type == "cuda" and not torch.cuda.is_available():
            raise ArgumentError(
                "torch finds no GPU on this machine: see what `nvidia-smi` says, or try the code with --device cpu --tiny."
            )
        if place.type == "cpu" and not tiny:
            raise ArgumentError("Sizes of real models take a GPU: add --tiny to --device cpu, or leave both out.")
        return cls(place, torch.float32 if place.type == "cpu" else torch.bfloat16)

    @property
    def counts_memory(self) -> bool:
        """Whether torch has counters of this device's memory."""
        return self.device.type == "cuda" and torch.cuda.is_available()

    @property
    def name(self) -> str:
        """What the device calls itself; a processor's model name where it is one."""
        return torch.cuda.get_device_name(self.device) if self.counts_memory else Machine.here(0).processor

    def free_gb(self) -> float:
        """Free memory in GB; infinite where torch has no counter."""
        return torch.cuda.mem_get_info(self.device)[0] / GB if self.counts_memory else float("inf")

    def held_gb(self) -> float:
        """Memory that tensors hold now, in GB; NaN where torch has no counter."""
        return torch.cuda.memory_allocated(self.device) / GB if self.counts_memory else float("nan")

    def peak_gb(self) -> float:
        """The most that tensors have held since the last `clean`, in GB; NaN where torch has no counter."""
        return torch.cuda.max_memory_allocated(self.device) / GB if self.counts_memory else float("nan")

    def clean(self) -> None:
        """Gives freed memory back and begins a new peak."""
        gc.collect()
        if self.counts_memory:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def wait(self) -> None:
        """Returns when everything that was asked of the device is done."""
        if self.counts_memory:
            torch.cuda.synchronize(self.device)

    def timed(self, work: Callable[[], Result]) -> tuple[float, Result]:
        """Returns wall seconds from an idle device to an idle device, and the result."""
        self.wait()
        started = time.perf_counter()
        result = work()
        self.wait()
        return time.perf_counter() - started, result

    def built(self, build: Callable[[], Any]) -> Any:
        """Returns a model or a pipeline that is made on the device, its weights drawn from the same seed each time.

        Weights are made in the card's precision where they will be: seven billion random numbers take minutes elsewhere.
        """
        before = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)
        torch.manual_seed(0)
        try:
            with torch.device(self.device):
                made = build()
        finally:
            torch.set_default_dtype(before)
        for module in modules_of(made):
            module.eval().requires_grad_(False)
        return made


def modules_of(made: Any) -> list[torch.nn.Module]:
    """Returns a model, or those of a pipeline."""
    parts = [made] if isinstance(made, torch.nn.Module) else made.components.values()
    return [part for part in parts if isinstance(part, torch.nn.Module)]
