"""A device that this machine lacks, for tests: its tensors say that they are on a GPU, and hold their numbers in main memory.

What a GPU would refuse is refused here too: operations that mix its tensors with others, and reading one as an array of
numpy. So code that forgets to move something fails on a machine without a GPU. Kernels are the processor's, so speed,
memory and rounding are not a GPU's. CUDA is the name because transformers and diffusers ask for names they know.
"""

from collections.abc import Iterator
from typing import Any, Self

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

DEVICE = torch.device("cuda", 0)
MAIN_MEMORY = torch.device("cpu")


class Elsewhere(torch.Tensor):
    """A tensor on the device; `held` has its numbers."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> Self:
        """Looks like `held` but for the device."""
        return torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype, device=DEVICE
        )  # fmt: skip

    def __init__(self, held: torch.Tensor) -> None:
        """Keeps the numbers."""
        self.held = held

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Computes in main memory."""
        return compute(operation, args, kwargs or {})

    def numpy(self, **_: Any) -> Any:
        """As on a GPU."""
        raise TypeError(f"can't convert {DEVICE} device type tensor to numpy")

    __array__ = numpy

    # PyTorch's own forms of these ask the driver of the device, which is not there, before anything can be done about it.

    def __getitem__(self, index: Any) -> "Elsewhere":
        return Elsewhere(self.held[_held(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        _refuse_mixed("setting items", [self, value])
        self.held[_held(index)] = _held(value)

    def __iter__(self) -> Iterator[Any]:
        return map(Elsewhere, self.held)

    def __invert__(self) -> torch.Tensor:
        return torch.bitwise_not(self)

    def nonzero(self, *, as_tuple: bool = False) -> Any:
        return tree_map_only(torch.Tensor, Elsewhere, self.held.nonzero(as_tuple=as_tuple))

    def contiguous(self, **how: Any) -> "Elsewhere":  # type: ignore[override]
        return Elsewhere(self.held.contiguous(**how))

    def tolist(self) -> Any:
        return self.held.tolist()

    def item(self) -> Any:
        return self.held.item()

    def __bool__(self) -> bool:
        return bool(self.held)

    def __int__(self) -> int:
        return int(self.held)

    def __float__(self) -> float:
        return float(self.held)

    def __index__(self) -> int:
        return self.held.__index__()


class OtherDevice(TorchDispatchMode):
    """While it is entered, tensors can be made on the device and moved to it."""

    def __init__(self) -> None:
        """As PyTorch's own tensors without numbers are: nothing asks for the device's driver."""
        super().__init__()
        self._mode_key = torch._C._TorchDispatchModeKey.FAKE
        self._before = torch._C._only_lift_cpu_tensors()

    def __enter__(self) -> Self:
        """New tensors are made in main memory first."""
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        """As it was before."""
        super().__exit__(*error)
        torch._C._set_only_lift_cpu_tensors(self._before)

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Computes in main memory."""
        return compute(operation, args, kwargs or {})


def compute(operation: Any, args: Any, kwargs: Any) -> Any:
    """Returns what an operation gives, on the device that it belongs to.

    Raises RuntimeError when it is given tensors of both. As on a GPU, a single number may come from main memory, and so may
    the places that an index names.
    """
    given = tree_leaves((args, kwargs))
    if operation is torch.ops.aten.copy_.default:
        _held(args[0]).copy_(_held(args[1]))
        return args[0]
    if operation is not torch.ops.aten._to_copy.default:
        _refuse_mixed(str(operation), given)
    wished = next((one for one in given if isinstance(one, torch.device)), None)
    args, kwargs = tree_map_only(torch.device, lambda _: MAIN_MEMORY, _held((args, kwargs)))
    results = operation(*args, **kwargs)
    there = [one for one in given if isinstance(one, Elsewhere)]
    if not (there if wished is None else wished.type == DEVICE.type):
        return results
    known = {id(one.held): one for one in there}  # what was changed in place stays itself
    return tree_map_only(
        torch.Tensor, lambda result: known[id(result)] if id(result) in known else Elsewhere(result), results
    )


def move(part: torch.nn.Module) -> None:
    """Puts every weight and buffer of a module on the device; weights that are shared stay shared."""
    moved: dict[int, Elsewhere] = {}
    for module in part.modules():
        for store in (module._parameters, module._buffers):
            for name, value in store.items():
                if value is not None:
                    store[name] = moved.setdefault(id(value), Elsewhere(value.data))  # type: ignore[assignment]


def _held(values: Any) -> Any:
    return tree_map_only(Elsewhere, lambda one: one.held, values)


def _refuse_mixed(operation: str, given: list[Any]) -> None:
    tensors = [one for one in given if isinstance(one, torch.Tensor)]
    here = [one for one in tensors if not isinstance(one, Elsewhere) and one.dim()]
    if here and len(here) < len(tensors) and any(isinstance(one, Elsewhere) for one in tensors):
        raise RuntimeError(
            f"{operation}: expected all tensors to be on the same device, but one of {tuple(here[0].shape)} is on cpu, not {DEVICE}"
        )
