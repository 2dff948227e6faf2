"""What the check at load found: for each way of reading, looking and changing, whether it may be used. Imports no torch."""

import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

from interp.assets import cache_folder
from interp.errors import UserError
from interp.models.identity import ModelIdentity

WAYS_OUT = {
    "reading": "name another model",
    "forks": "use what reads every text whole (surprisal, verbatim_memory; `model.rows`, `model.surprisal`), or name another model",
    "ragged": "use what reads every text whole (surprisal, verbatim_memory; `model.rows`, `model.surprisal`), or name another model",
    "padding": "give `model.hf` one row at a time, or rows of one length",
    "heads": "use what looks at no attention rows, such as surprisal, or verbatim_memory without masks, or name another model",
    "head_outputs": "use recorded attention rows instead, or name another model",
    "edits": "leave out what silences or blocks heads, or name another model",
    "contributions": "leave them out (in retrieval_heads --no-contributions), or name another model",
}
"""The names of the verdicts, and what to do without each."""


@dataclass(frozen=True)
class Verdict:
    """One way's verdict: why it is refused, or None; and how far off it was, as a share of the values' spread."""

    refused: str | None = None
    error: float | None = None
    tolerance: float | None = None

    def in_words(self) -> str:
        """Returns the verdict as a clause."""
        if self.refused is not None:
            return f"refused: {self.refused}"
        return (
            "right"
            if self.error is None
            else f"right (off by {self.error:.1e} of the spread, {self.tolerance:.1e} allowed)"
        )


@dataclass(frozen=True)
class Verdicts:
    """All verdicts on one model by name; `without_heads` says why its attention is left to transformers, if it is."""

    by_name: Mapping[str, Verdict]
    without_heads: str | None = None
    limits: tuple[str, ...] = ()
    """How the model may not be read on (interp.models.language.states.Limit)."""

    def check(self, name: str, model: str) -> None:
        """Raises UserError when what is asked for failed the check."""
        verdict = self.by_name.get(name)
        if verdict is not None and verdict.refused is not None:
            raise UserError(f"{model} fails the check at load on `{name}` ({verdict.refused}): {WAYS_OUT[name]}.")

    def refuses(self, *names: str) -> bool:
        """Whether any of these ways is refused."""
        return any(self.by_name[name].refused is not None for name in names if name in self.by_name)


def kept_verdicts(identity: ModelIdentity, device: str) -> Verdicts | None:
    """Returns what an earlier check of the same weights, precision, kind of device and versions found, or None.

    A file that is cut off or not ours is as good as none.
    """
    try:
        kept = json.loads(_place(identity, device).read_text(encoding="utf-8"))
        by_name = {name: Verdict(**fields) for name, fields in kept["verdicts"].items()}
        found = Verdicts(by_name, kept["without_heads"], tuple(kept["limits"]))
        return found if set(by_name) == set(WAYS_OUT) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def keep_verdicts(identity: ModelIdentity, device: str, verdicts: Verdicts) -> None:
    """Writes the verdicts, aside and then renamed; where the cache folder cannot be written the next load checks again."""
    place = _place(identity, device)
    content = {
        "model": dataclasses.asdict(identity),
        "verdicts": {name: dataclasses.asdict(verdict) for name, verdict in verdicts.by_name.items()},
        "without_heads": verdicts.without_heads,
        "limits": verdicts.limits,
    }
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=place.parent, suffix=".part")
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(content, stream, indent=1)
        os.replace(aside, place)
    except OSError:
        return


def _place(identity: ModelIdentity, device: str) -> Path:
    source = "" if identity.is_local else identity.source  # files are known by their sha256
    named = [source, identity.revision, identity.dtype, device.partition(":")[0], *_versions()]
    return cache_folder() / "checks" / f"{hashlib.sha256(json.dumps(named).encode()).hexdigest()[:24]}.json"


@cache
def _versions() -> tuple[str, ...]:
    """Versions of what reads a model: torch, transformers, and the files of interp.models."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.read_bytes())
    return version("torch"), version("transformers"), digest.hexdigest()
