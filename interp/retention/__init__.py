"""Retention policies: which keys of a prompt may still be read, as small classes and an exact simulation of them (`simulate.py`)."""

from typing import TYPE_CHECKING

from interp.imports import lazily

if TYPE_CHECKING:
    from interp.retention.contract import Setting
    from interp.retention.policies.base import Evict, Policy, Pool, Select
    from interp.retention.policies.catalogue import build
    from interp.retention.simulate import PolicyEdit, read_prompt

__all__ = ["Evict", "Policy", "PolicyEdit", "Pool", "Select", "Setting", "build", "read_prompt"]

__getattr__ = lazily(
    __name__,
    {
        "Evict": "policies.base",
        "Policy": "policies.base",
        "PolicyEdit": "simulate",
        "Pool": "policies.base",
        "Select": "policies.base",
        "Setting": "contract",
        "build": "policies.catalogue",
        "read_prompt": "simulate",
    },
)
