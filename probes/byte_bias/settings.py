"""The settings of the byte_bias experiment, and the prompts that they name. Imports no torch."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from annotated_types import Ge

from interp.errors import ArgumentError
from interp.experiments.bounds import SOME, Count, CountOrNone, OpenShare
from interp.experiments.experiment import Dtype, Experiment
from interp.kept import kept_while_unchanged

OWN_PROMPTS = Path(__file__).with_name("prompts.toml")


@dataclass(frozen=True)
class Prompt:
    """What stands before a word, and the parts of the word: the prompt ends behind every part but the last."""

    id: str
    domain: str
    before: str
    parts: tuple[str, ...]

    @property
    def text(self) -> bytes:
        """The whole text."""
        return (self.before + "".join(self.parts)).encode()

    @property
    def cuts(self) -> tuple[int, ...]:
        """Bytes of the text before each end of the prompt."""
        ends, at = [], len(self.before.encode())
        for part in self.parts[:-1]:
            at += len(part.encode())
            ends.append(at)
        return tuple(ends)


@dataclass(frozen=True, kw_only=True)
class Settings(Experiment):
    """The fields of ByteBias."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {
            "prompts_per_domain": 1,
            "tolerance": 0.05,
            "articles": 8,
            "concept_articles": 8,
            "concept_depths": 2,
            "passage_tokens": 128,
        }
    }

    dtype: Dtype = "float32"
    """Precision of the weights."""
    prompts: Path | None = None
    """A .toml file of prompts like probes/byte_bias/prompts.toml: [domain], texts = [[before, [part, part, …]], …]."""
    prompts_per_domain: Count | None = None
    """Maximum number of prompts per domain; by default all."""
    heal_tokens: Annotated[tuple[Count, ...], SOME] = (1, 3)
    """Token healing: numbers of tokens at the prompt's end to remove and choose again; each is a way of its own."""
    beam_covers: tuple[Count, ...] = (2, 5)
    """Beam widths: numbers of covers (token sequences that spell the prompt) kept at every byte; each is a way of its own."""
    tolerance: OpenShare = 1e-3
    """Largest share of a step's probability whose tokens are not tested for whether the tokenizer would produce them there."""

    articles: CountOrNone = 64
    """Number of prose texts whose words are scored, to compare words of several tokens with words of one; 0 skips this part."""
    passage_tokens: Count = 192
    """Length of the passage read from each prose text, in tokens."""
    concept_articles: CountOrNone = 64
    """Number of prose texts in which later tokens of a name are decoded from its first token's state; half of them fit the linear
    maps; 0 skips this part."""
    concept_depths: Annotated[int, Ge(2)] = 6
    """Number of depths whose states are decoded, evenly spaced from the first layer's input (0) to the last layer's output."""
    corpus: Path | None = None
    """Folder of .txt files for --articles and --concept-articles; the remaining files are used to count words. By default news prose."""

    def input_files(self) -> Sequence[Path]:
        """Returns the file of prompts and the folder of texts."""
        return [path for path in (self.prompts, self.corpus) if path]

    def read_prompts(self) -> tuple[Prompt, ...]:
        """Returns the prompts, domain by domain.

        Raises ArgumentError for a file that is not there or that holds something else.
        """
        found = _read(self.prompts or OWN_PROMPTS)
        limit = self.prompts_per_domain
        return tuple(one for one in found if limit is None or int(one.id.rpartition("-")[2]) < limit)


@kept_while_unchanged(lambda path: (path,))
def _read(path: Path) -> tuple[Prompt, ...]:
    if not path.is_file():
        raise ArgumentError(f"There is no file {path}: name a file of prompts with --prompts.")
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        found = tuple(
            _prompt(domain, number, row) for domain, table in tables.items() for number, row in enumerate(_rows(table))
        )
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ArgumentError(
            f"{path} is not a file of prompts ({error}): write [domain] and texts = [[before, [parts]]]."
        ) from error
    for one in found:
        if len(one.parts) < 2 or not all(one.parts) or not one.before:
            raise ArgumentError(
                f"Prompt {one.id} needs something before it and two parts: the prompt ends after the first."
            )
    if not found:
        raise ArgumentError(f"{path} holds no prompt.")
    return found


def _rows(table: Any) -> Sequence[Any]:
    if (
        not isinstance(table, dict)
        or set(table) != {"texts"}
        or not isinstance(table["texts"], list)
        or not table["texts"]
    ):
        raise ValueError("each table needs texts, a list, and nothing else")
    return table["texts"]


def _prompt(domain: str, number: int, row: Any) -> Prompt:
    """A prompt of a file; raises ValueError for a text where a list is meant, which would be read as its letters."""
    if not isinstance(row, list) or len(row) != 2 or not isinstance(row[0], str) or not isinstance(row[1], list):
        raise ValueError(f"{domain}-{number} is no [text, [parts]]")
    if not all(isinstance(part, str) for part in row[1]):
        raise ValueError(f"a part of {domain}-{number} is no text")
    return Prompt(f"{domain}-{number}", domain, row[0], tuple(row[1]))
