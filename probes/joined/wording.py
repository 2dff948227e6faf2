"""Numbers with their intervals as sentences have them."""

import math
from collections.abc import Mapping
from typing import Any

Row = Mapping[Any, Any]


def with_interval(row: Row, format: str, value: str = "value") -> str:
    """Returns "0.12 [0.10, 0.15]": a column of the row with its interval, or the number alone where it has none."""
    low, high = _bounds(row, value)
    shown = f"{row[value]:{format}}"
    return shown if math.isnan(low) else f"{shown} [{low:{format}}, {high:{format}}]"


def in_points(row: Row, value: str) -> str:
    """Returns a difference of shares with its interval in percentage points: "+12 [-3, +20]"."""
    scaled = {name: 100 * number for name, number in row.items() if name.startswith(value)}
    return with_interval(scaled, "+.0f", value)


def sign_of(row: Row, value: str = "value") -> int | None:
    """Returns 1 or -1 where the whole interval lies on that side of 0, 0 where it holds 0, None where there is none."""
    low, high = _bounds(row, value)
    return None if math.isnan(low) else int(low > 0) - int(high < 0)


def over(n: int, one: str, several: str) -> str:
    """Returns what intervals resample, as "95% intervals over 12 texts": of one there are none."""
    return f"one {one}, so no intervals" if n == 1 else f"95% intervals over {n} {several}"


def _bounds(row: Row, value: str) -> tuple[float, float]:
    """The interval of a column: in columns that begin with its name, or of the row's only one."""
    prefix = f"{value}_ci" if f"{value}_ci_low" in row else "ci"
    return float(row[f"{prefix}_low"]), float(row[f"{prefix}_high"])
