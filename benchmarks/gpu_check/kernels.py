"""Which kernels torch takes for attention, seen by its profiler: flash attention, and grouped keys that are not expanded."""

from functools import partial
from typing import Any

import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu_check.card import Card
from benchmarks.gpu_check.language import N_QUERIES, Subject, make
from benchmarks.gpu_check.sizes import TextSizes
from benchmarks.gpu_check.verdicts import Group, Measured, NotRunError
from interp.models.language.recording import TopKeys

FUSED = {
    "aten::_scaled_dot_product_flash_attention": "flash",
    "aten::_scaled_dot_product_flash_attention_for_cpu": "flash",
    "aten::_scaled_dot_product_cudnn_attention": "cudnn",
    "aten::_scaled_dot_product_efficient_attention": "memory-efficient",
    "aten::_scaled_dot_product_attention_math": "math",
    "aten::_scaled_dot_product_attention_math_for_mps": "math",
}
"""What `scaled_dot_product_attention` may come down to, by the name under which the profiler tells it."""
N_KERNELS = 6
"""Lines of the table of kernels."""


def group(shape: str, sizes: TextSizes, *, asked: bool) -> Group:
    """Returns the checks of kernels; nothing is run unless they were asked for."""
    return Group(
        "kernels", shape, partial(make, sizes) if asked else _no_model, {"kernels": partial(kernels, asked=asked)}
    )


def _no_model(card: Card) -> None:
    """Nothing is made."""


def kernels(subject: Subject, card: Card, *, asked: bool) -> list[Measured]:
    """A prefill without and with recording: how many of its attention calls are flash, and how many key heads they are given.

    A text that is read on from a prefix has a mask, and then torch takes what it has for that.
    """
    if not asked:
        raise NotRunError("asked for with --profile")
    model, n = subject.model, subject.sizes.rows_tokens
    ids = subject.ids(n)

    def prefill() -> None:
        model.extend(model.prefix(room=n), [ids], logits="last")

    def recorded() -> None:
        with model.record(torch.arange(n - N_QUERIES, n)[None], TopKeys(2)):
            prefill()

    def on() -> None:
        prefix = model.prefix(ids[: n // 2])
        model.extend(prefix, [ids[n // 2 :]], logits="last")

    found = []
    for name, work in (("prefill", prefill), ("prefill with recording", recorded)):
        seen = profiled(work, card)
        calls = calls_of(seen)
        flash = float(calls["kernel"].isin(["flash", "cudnn"]).mean())
        given = float(calls["key_heads"].max())
        found += [
            Measured(
                f"{name}: attention calls by a flash kernel", flash, "share", 1.0, at_least=True, note=told(calls)
            ),
            Measured(f"{name}: key heads given to the kernel", given, "heads", float(model.geometry.n_kv_heads)),
            *longest(name, seen, card),
        ]
    calls = calls_of(profiled(on, card))
    flash = float(calls["kernel"].isin(["flash", "cudnn"]).mean())
    found.append(Measured("reading on: attention calls by a flash kernel", flash, "share", note=told(calls)))
    return found


def longest(name: str, seen: Any, card: Card) -> list[Measured]:
    """Returns what took longest on the device, in milliseconds."""
    spent = "self_device_time_total" if card.counts_memory else "self_cpu_time_total"
    events = sorted(seen.key_averages(), key=lambda event: -getattr(event, spent))[:N_KERNELS]
    return [
        Measured(f"{name}: {event.key[:80]}", getattr(event, spent) / 1000, "ms", note=f"{event.count} calls")
        for event in events
    ]


def told(seen: pd.DataFrame) -> str:
    """How many calls each kernel had."""
    return ", ".join(f"{n} {kernel}" for kernel, n in seen["kernel"].value_counts().items())


def profiled(work: Any, card: Card) -> Any:
    """Returns torch's profile of a piece of work, after a warm-up."""
    work()
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if card.counts_memory else [])]
    with profile(activities=kinds, record_shapes=True) as seen:
        work()
        card.wait()
    return seen


def calls_of(seen: Any) -> pd.DataFrame:
    """Returns the attention calls of a profile.

    Raises NotRunError where it shows none.
    """
    rows = [
        {"kernel": FUSED[event.name], "key_heads": event.input_shapes[1][1]}
        for event in seen.events()
        if event.name in FUSED
    ]
    if not rows:
        raise NotRunError("the profiler shows no attention call under a name that is known here")
    return pd.DataFrame(rows)
