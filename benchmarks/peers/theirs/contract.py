"""What every script here does: read inputs.json, warm up, time its work in processor seconds of one thread, write numbers.json."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def answer(prepare: Callable[[dict[str, Any]], Callable[[], Any]]) -> None:
    """Runs `prepare(inputs)`, times what it returns, and writes {"seconds", "numbers"} where the second argument says."""
    torch.set_num_threads(1)
    inputs = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    work = prepare(inputs)
    started = time.process_time()
    numbers = work()
    seconds = time.process_time() - started
    Path(sys.argv[2]).write_text(json.dumps({"seconds": seconds, "numbers": numbers}), encoding="utf-8")
