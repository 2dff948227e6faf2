"""A file that is edited between two runs of one process: the second is named by the new contents, and made of them."""

import ast
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from interp.kept import kept_while_unchanged
from interp.stimuli.prose import read_folder
from probes.byte_bias.experiment import ByteBias
from probes.context_recall.experiment import ContextRecall
from probes.embedding_swap.experiment import EmbeddingSwap
from probes.embedding_swap.materials import materials_of
from probes.function_tokens.experiment import FunctionTokens
from probes.function_tokens.inputs import set_up
from probes.function_tokens.plan import corpus_of
from probes.prediction_depth.experiment import PredictionDepth
from probes.prediction_depth.materials import frequencies, kinds_of
from probes.prediction_depth.questions import read_questions
from probes.sequence_representation.experiment import SequenceRepresentation
from probes.surprisal.experiment import Surprisal
from probes.training_memory.duplicates import known_texts
from probes.training_memory.experiment import TrainingMemory
from probes.verbatim_memory.trials import read_texts
from tests.planted import copy_model, news


def test_a_result_is_kept_until_its_files_change(tmp_path):
    made = []

    @kept_while_unchanged(lambda path, _: (path, None))
    def read(path: Path, times: int) -> str:
        made.append(times)
        return times * "".join(file.read_text() for file in (sorted(path.iterdir()) if path.is_dir() else [path]))

    one = tmp_path / "one"
    one.write_text("a")
    assert [read(one, 2), read(one, 2), read(one, 3)] == ["aa", "aa", "aaa"]
    assert made == [2, 3]
    times = one.stat()
    one.write_text("b")
    os.utime(one, ns=(times.st_atime_ns, times.st_mtime_ns))  # as long, and as old
    assert read(one, 2) == "bb"
    assert read(tmp_path, 1) == "b"
    (tmp_path / "two").write_text("c")
    assert read(tmp_path, 1) == "bc"
    one.unlink()
    assert read(tmp_path, 1) == "c"


MODEL = copy_model()


def prose(folder: Path, version: int) -> Path:
    folder.mkdir(exist_ok=True)
    for number, text in enumerate(news(12)[6 * version : 6 * version + 6]):
        (folder / f"{number}.txt").write_text(text)
    return folder


def lines(path: Path, text: str) -> Path:
    """Writes a file, which stays as old as it was."""
    times = path.stat() if path.exists() else None
    path.write_text(text)
    if times:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return path


def of_byte_bias(place: Path, version: int) -> Any:
    text = f'[news]\ntexts = [["before {version} ", ["one", "two"]]]\n'
    return ByteBias(prompts=lines(place / "p.toml", text)).read_prompts()


def of_frames(place: Path, version: int) -> Any:
    frames, words = (
        [f"{start} ___ it" for start in "abcd"],
        [f"{word}{version}" for word in ("cat", "dog", "mat", "hat")],
    )
    table = f'frames = {frames}\ntests = ["the ___ by"]\nwords = {words}\n'
    return EmbeddingSwap(frames=lines(place / "f.toml", f"[noun]\n{table}[verb]\n{table}")).read_frames()


def of_swapped_texts(place: Path, version: int) -> Any:
    return materials_of(MODEL, EmbeddingSwap(texts=prose(place / "texts", version))).counts.tolist()


def of_words(place: Path, version: int) -> Any:
    from probes.context_recall.words import _listed

    return _listed(str(lines(place / "w.txt", f"cat dog word{version}")))


def of_texts_around(place: Path, version: int) -> Any:
    from probes.context_recall.settings import OWN_FRAMES

    changed = f'extra = "{version}"\n' + OWN_FRAMES.read_text(encoding="utf-8")
    return ContextRecall(frames=lines(place / "c.toml", changed)).read_frames()["extra"]


def of_questions(place: Path, version: int) -> Any:
    text = f'[capital]\ncue = "the capital of {{}} is"\nfacts = "France = Paris{version} | Spain = Madrid"\n'
    return read_questions(PredictionDepth(facts=lines(place / "q.toml", text)))


def of_counts(place: Path, version: int) -> Any:
    return frequencies(PredictionDepth(texts=prose(place / "texts", version)), MODEL).counts.tolist()


def of_function_words(place: Path, version: int) -> Any:
    ids = MODEL.tokenizer(news(1)[0], add_special_tokens=False)["input_ids"]
    words = lines(place / "words.txt", ("the near", "nets boxes")[version])
    return kinds_of(PredictionDepth(function_words=words), MODEL.tokenizer, ids[:-1], ids[1:])


def of_lists(place: Path, version: int) -> Any:
    tables = "".join(f'[{name}]\nintact = "text {version} ."\n' for name in ("preface", "prompt"))
    return read_texts(lines(place / "l.toml", f'{tables}[intervening]\nintact = ["one ."]\n')).preface


def of_surprisal(place: Path, version: int) -> Any:
    return Surprisal(texts=lines(place / "t.txt", f"text {version} and so on")).read_texts()


def of_pairs(place: Path, version: int) -> Any:
    text = f"sentence1\tsentence2\tscore\nfirst {version}\tb\t1\nc\td\t2\n"
    return SequenceRepresentation(pairs=lines(place / "p.tsv", text)).read_pairs()


def of_duplicates(place: Path, version: int) -> Any:
    return known_texts(
        TrainingMemory(duplicates=lines(place / "d.tsv", f"text\tduplicates\ntext {version} of it\t3\n"))
    )


def of_folder(place: Path, version: int) -> Any:
    (place / "folder").mkdir(exist_ok=True)
    return read_folder(lines(place / "folder" / "a.txt", f"text {version}").parent)


def of_corpus(place: Path, version: int, read: Callable[..., Any] = corpus_of) -> Any:
    settings = FunctionTokens(
        corpus=prose(place / "texts", version), parts=("losses",), tokens=200, context_tokens=32, blocks=2
    )
    found = read(settings, MODEL)
    return getattr(found, "corpus", found).windows.ids.tolist()


def of_inputs(place: Path, version: int) -> Any:
    return of_corpus(place, version, set_up)


@pytest.mark.parametrize(
    "read",
    [
        of_byte_bias, of_frames, of_swapped_texts, of_words, of_texts_around, of_questions, of_counts, of_function_words,
        of_lists, of_corpus, of_inputs, of_surprisal, of_pairs, of_duplicates, of_folder,
    ],
)  # fmt: skip
def test_what_is_read_is_what_the_file_holds_now(read, tmp_path):
    first, second, again = (read(tmp_path, version) for version in (0, 1, 0))
    assert first == again
    assert first != second


def test_nothing_is_kept_by_the_name_of_a_file_alone():
    """No function that keeps its results takes a path, a file's name, or settings, which name some, without their stamps."""
    root, wrong = Path(__file__).parents[1], []
    for file in (*root.glob("interp/**/*.py"), *root.glob("probes/**/*.py")):
        for function in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef):
                kept = any("cache" in ast.unparse(one) for one in function.decorator_list)
                kinds = {ast.unparse(one.annotation) for one in function.args.args if one.annotation}
                names = {one.arg for one in function.args.args}
                by_name = kinds & {"Path", "Path | None", "Settings"} or names & {"name", "source", "folder", "path"}
                if kept and by_name and "_stamps" not in names:
                    wrong.append(f"{file.relative_to(root)}: {function.name}")
    assert wrong == []
