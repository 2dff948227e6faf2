"""Commands and Python that pages show: fenced blocks, and commands between single backticks."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [
    path
    for folder in ("*.md", "docs/**/*.md", "experiments/*.md", "notebooks/*.md", "training/**/*.md", "interp/**/*.md")
    for path in sorted(ROOT.glob(folder))
]
"""Every page that a person reads."""
SHELL = ("", "bash")
"""Languages of blocks that hold commands; a block without a language may hold something else, such as a listing."""
_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<language>[^{}\s]*)$")
_INLINE = re.compile(r"(?<!`)`((?:python -m|make|pip|ray) [^`]+)`(?!`)")


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        """Where it is."""
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Command:
    """One command, on one line, without comments."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line} {self.text}"


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page; directives (`{name}`) are not among them."""
    found, start, fence = [], 0, ""
    lines = page.read_text(encoding="utf-8").splitlines()
    language = ""
    for number, line in enumerate(lines):
        if fence:
            if line.strip() == fence:
                name = str(page.relative_to(ROOT))
                found.append(Block(name, start + 2, language, "\n".join(lines[start + 1 : number])))
                fence = ""
        elif opening := _FENCE.match(line):
            start, fence, language = number, opening["ticks"], opening["language"]
        elif line.lstrip().startswith("```"):  # a directive, whose body is no command
            start, fence, language = number, re.match(r"`+", line.lstrip())[0], "directive"  # type: ignore[index]
    return [block for block in found if block.language != "directive"]


def commands() -> list[Command]:
    """Every command of every page, in order; a line that goes on after a backslash is one."""
    return [command for page in PAGES for command in (*_in_blocks(page), *_between_backticks(page))]


def _in_blocks(page: Path) -> Iterator[Command]:
    for block in blocks(page):
        if block.language not in SHELL or not _holds_commands(block):
            continue
        line, kept = block.line, ""
        for number, text in enumerate(block.text.splitlines()):
            line = line if kept else block.line + number
            kept += re.sub(r"(^|\s)#.*$", "", text).strip()
            if kept.endswith("\\"):
                kept = kept[:-1]
                continue
            if kept:
                yield Command(block.page, line, " ".join(kept.split()))
            kept = ""


def _holds_commands(block: Block) -> bool:
    """Whether the block is typed into a shell, and not read: what is read begins with no word that a shell knows."""
    return block.language == "bash" or bool(re.match(r"(\$ )?(make|python|pip|git|cd|export)\b", block.text))


def _between_backticks(page: Path) -> Iterator[Command]:
    text = page.read_text(encoding="utf-8")
    for found in _INLINE.finditer(text):
        line = text[: found.start()].count("\n") + 1
        yield Command(str(page.relative_to(ROOT)), line, " ".join(found[1].split()))
