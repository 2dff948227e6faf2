"""Files nobody meant: whatever a user's file holds, its reader takes it or refuses it in one sentence, and leaves it alone."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from interp.errors import UserError
from interp.experiments.__main__ import _read_toml
from interp.experiments.atlas_settings import read_configuration
from interp.experiments.run import configured, open_run
from interp.heads.files import read_heads
from interp.models.dictionary.dictionary import Dictionary
from interp.stimuli.prose import read_folder
from interp.tables import TableSchema, read_table
from probes.byte_bias.settings import Settings as ByteBias
from probes.context_recall.settings import OWN_FRAMES as OWN_TASK_FRAMES
from probes.context_recall.settings import Settings as ContextRecall
from probes.critical_tokens.experiment import CriticalTokens
from probes.critical_tokens.problems import read_problems
from probes.embedding_swap.settings import Settings as EmbeddingSwap
from probes.function_tokens.experiment import FunctionTokens
from probes.prediction_depth.questions import read_questions
from probes.prediction_depth.settings import Settings as PredictionDepth
from probes.retrieval_heads.comparison import public_head_scores
from probes.retrieval_heads.experiment import RetrievalHeads
from probes.retrieval_heads.needles import read_needles
from probes.t2i_flow.experiment import T2IFlow
from probes.t2i_flow.predictor import read_rules
from probes.t2i_flow.prompts import read_prompts
from probes.verbatim_memory.experiment import VerbatimMemory
from probes.verbatim_memory.lists import read_pool, read_public_lists
from probes.verbatim_memory.trials import read_texts
from tests.test_dictionary import make_sae

# sae-lens imports a module that TransformerLens 3.9 has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:The 'utils' module has been deprecated:DeprecationWarning")

DEEP = 100_000
"""Brackets that no parser follows."""
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


class Numbers(TableSchema):
    value: float


def toml_of(kind: type) -> Callable[[Path], object]:
    return lambda path: configured(kind, _read_toml(path, kind))


def in_folder(name: str, read: Callable[[Path], object]) -> Callable[[Path], object]:
    """A reader of a folder, in which the file is called something."""

    def read_it(path: Path) -> object:
        place = path.with_name(f"holds-{name}")
        (place / name).write_bytes(path.read_bytes())
        return read(place)

    return read_it


NEEDLE = '{"id": "a", "needle": "The key is in the box.", "question": "Where is the key?", "real_needle": "in the box"}'
FRAMES = "".join(
    f'[{part}]\nframes = ["a ___", "b ___", "c ___", "d ___"]\ntests = ["x y"]\nwords = ["one", "two", "three", "four"]\n'
    for part in ("noun", "verb")
)
TASK_FRAMES = OWN_TASK_FRAMES.read_text(encoding="utf-8")
READERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "needles": (read_needles, NEEDLE),
    "public heads": (public_head_scores, '{"0-1": [0.5, 1], "10-2": [0, 0.25]}'),
    "pool": (read_pool, "# fruits\nfruit: apple, pear\ntree: oak, elm\n"),
    "nouns": (read_pool, "apple\npear\noak\n"),
    "lists": (read_public_lists, '{"n2": [["a", "b"], ["c", "d"]], "n1": [["a"], ["c"]]}'),
    "texts": (
        read_texts.__wrapped__,
        '[preface]\nintact = "Mary read:"\n[prompt]\nintact = "Again:"\n[intervening]\nintact = ["It rained."]\n',
    ),
    "gsm8k": (lambda path: read_problems(path, "gsm8k", None), '{"question": "1+1?", "answer": "It is 2.\\n#### 2"}'),
    "math": (lambda path: read_problems(path, "math", None), '{"problem": "1+1?", "solution": "\\\\boxed{2}"}'),
    "prompts": (read_prompts, '{"text": "a cat and a dog", "items": ["cat", {"phrase": "dog", "leaks": ["cats"]}]}'),
    "byte_bias": (
        lambda path: ByteBias(prompts=path).read_prompts(),
        '[a]\ntexts = [["b", ["c", "d"]], ["e", ["f", "g"]]]\n',
    ),
    "frames": (lambda path: EmbeddingSwap(frames=path).read_frames(), FRAMES),
    "texts of tasks": (lambda path: ContextRecall(frames=path).read_frames(), TASK_FRAMES),
    "facts": (
        lambda path: read_questions(PredictionDepth(facts=path)),
        '[capital]\ncue = "The {} is"\nfacts = "a = b | c = d"\n[river]\ncue = "By {} is"\nfacts = "a = b"\n',
    ),
    "heads": (read_heads, '{"0-1": [0.5, 1], "10-2": [0, 0.25]}'),
    "best heads": (read_heads, '["1-2", "0-3"]'),
    "predictor": (
        read_rules,
        '{"model": "a", "encoders": {"clip": {"weights": [1, 2], "bias": 0, "mean": [0, 0], "scale": [1, 1]}}}',
    ),
    "atlas.toml": (read_configuration, 'model = "gpt2"\nseed = 1\n[retrieval_heads]\nk = [2]\n'),
    "retrieval_heads.toml": (toml_of(RetrievalHeads), 'context_tokens = [256]\nk = [2]\nneedles = "needles.jsonl"\n'),
    "verbatim_memory.toml": (toml_of(VerbatimMemory), 'list_lengths = [3]\nconditions = ["repeat"]\nrotations = 1\n'),
    "function_tokens.toml": (toml_of(FunctionTokens), 'tokens = 500\nparts = ["graph"]\nthreshold = 0.4\n'),
    "critical_tokens.toml": (toml_of(CriticalTokens), 'levels = ["arithmetic-2-5"]\nalpha = 0.05\ntop_k = 5\n'),
    "t2i_flow.toml": (toml_of(T2IFlow), 'n_prompts = 2\nparts = ["in_item"]\njudge = "pixel"\nsteps = 3\n'),
    "run.json": (
        in_folder("run.json", open_run),
        '{"status": "done", "experiment": "retrieval_heads", "schema_version": 4, "configuration": {"k": [2]}, '
        '"command": "x", "model": {"identity": {"name": "tiny"}}}',
    ),
    "corpus": (in_folder("a.txt", read_folder), "Some words."),
    "dictionary": (in_folder("cfg.json", Dictionary.from_folder), "{}"),
    "card": (in_folder("card.json", Dictionary.from_folder), '{"l0": 32.5, "explained_variance": 0.8}'),
    "table": (lambda path: read_table(path, Numbers), "PAR1"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the files, with a dictionary in each of two folders, one file of which is replaced again and again."""
    folder = tmp_path_factory.mktemp("malformed")
    for name in ("cfg.json", "card.json"):
        make_sae("jumprelu").save_model(folder / f"holds-{name}")
    for name in ("run.json", "a.txt"):
        (folder / f"holds-{name}").mkdir()
    return folder


def mutated(valid: str, draw: st.DrawFn) -> bytes:
    """A file that was right before something was lost, changed or put in."""
    content = bytearray(valid.encode())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        match draw(st.sampled_from("dic")):
            case "d":
                del content[at : at + draw(st.integers(1, 20))]
            case "i":
                content[at:at] = draw(
                    st.binary(max_size=6) | st.sampled_from([b'"', b"{", b"]", b",", b"\0", b"\n", b"0"])
                )
            case "c" if content:
                content[at % len(content)] = draw(st.integers(0, 255))
    return bytes(content)


def replaced(value: Any, draw: st.DrawFn) -> Any:
    """A JSON value with one of the values in it replaced by any other."""
    if isinstance(value, dict | list) and value and draw(st.integers(0, 3)):
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = draw(st.sampled_from(keys))
        changed = value.copy()
        changed[key] = replaced(value[key], draw)
        return changed
    return draw(JSON)


@st.composite
def files(draw: st.DrawFn, valid: str) -> bytes:
    """Contents of a file: bytes, text, JSON, or the right content after a mishap or with another value somewhere."""
    kinds = [
        st.binary(max_size=60),
        st.text(max_size=60).map(str.encode),
        JSON.map(json.dumps).map(str.encode),
        st.just(None).map(lambda _: mutated(valid, draw)),
    ]
    with suppress(ValueError):
        right = json.loads(valid)
        kinds += [st.just(None).map(lambda _: json.dumps(replaced(right, draw)).encode())] * 3
    return draw(st.one_of(kinds))


def check(read: Callable[[Path], object], path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        read(path)
    except UserError as error:
        sentence = str(error)
        assert sentence.endswith((".", "?")) or "is not finished" in sentence, sentence  # and the command to finish it
        assert "Traceback" not in sentence
    assert path.read_bytes() == content


@pytest.mark.parametrize("name", READERS)
@pytest.mark.filterwarnings("ignore::UserWarning:sae_lens")  # of fields that it does not know
def test_any_file_is_read_or_refused_in_a_sentence(name: str, place: Path) -> None:
    read, valid = READERS[name]
    if name == "dictionary":
        valid = (place / "holds-cfg.json" / "cfg.json").read_text()

    @given(files(valid))
    @example(valid.encode())
    @example(b"[" * DEEP)
    @example(b'{"a":' * DEEP)
    @example(b"a = " + b"[" * DEEP)
    @example(b"a = " + b"9" * 5000)
    @example(b'{"n\xc2\xb2": [[]]}')
    @example(b'model = "a\\u0000b"')
    @settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def try_file(content: bytes) -> None:
        check(read, place / "file", content)

    try_file()


@pytest.mark.parametrize("name", [name for name in READERS if name not in ("table", "dictionary", "run.json")])
def test_the_right_files_are_read(name: str, place: Path) -> None:
    read, valid = READERS[name]
    (place / "file").write_text(valid)
    read(place / "file")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("byte_bias", '["c", "d"]', '"cd"'),
        ("byte_bias", '["c", "d"]', '["c", ["d"]]'),
        ("byte_bias", '["c", "d"]', '["c", 1]'),
        ("byte_bias", '"b", ', '["b"], '),
        ("byte_bias", '"b", ', "1, "),
        ("byte_bias", 'texts = [["b", ["c", "d"]], ["e", ["f", "g"]]]', 'texts = ["bc", "de"]'),
        ("byte_bias", "texts", "before = 1\ntexts"),
        ("byte_bias", 'texts = [["b", ["c", "d"]], ["e", ["f", "g"]]]', "texts = []"),
        ("frames", '["x y"]', '"x y"'),
        ("frames", '["one", "two", "three", "four"]', '"four"'),
        ("frames", '["one", "two", "three", "four"]', '["one", "two", "three", 4]'),
        ("frames", '["one", "two", "three", "four"]', '["one", "two", "three", " "]'),
        ("frames", '["one", "two", "three", "four"]', '["one", "two", "three", "one"]'),
        ("frames", '["x y"]', '["x y", ["z"]]'),
        ("frames", "tests", 'test = ["z"]\ntests'),
        ("frames", '["a ___", "b ___", "c ___", "d ___"]', '"a ___"'),
        ("lists", '"n1": [["a"], ["c"]]', '"n02": [["e", "f"], ["g", "h"]]'),
        ("lists", '"n1": [["a"], ["c"]]', '"n2": [["e", "f"], ["g", "h"]]'),
        ("lists", '[["a", "b"], ["c", "d"]]', '["ab", "cd"]'),
        ("prompts", '["cats"]', '"cats"'),
        ("prompts", '["cat", {"phrase": "dog", "leaks": ["cats"]}]', '"cat"'),
        ("prompts", '"leaks"', '"looks": ["red"], "leaks"'),
        ("prompts", '"leaks"', '"alone": 1, "leaks"'),
        ("prompts", '"leaks"', '"phrase": "cat", "leaks"'),
        ("prompts", '"items"', '"group": ["a"], "items"'),
        ("prompts", '"items"', '"items": ["cat"], "items"'),
        ("texts", '["It rained."]', '"It rained."'),
        ("texts", '"Again:"', '["Again:"]'),
        ("facts", '"The {} is"', '["The {} is"]'),
        ("facts", '"a = b | c = d"', '["a = b", "c = d"]'),
        ("facts", "facts = \"a = b\"", "facts = \"a = b\"\nfact = \"c = d\""),
        ("best heads", '["1-2", "0-3"]', '"1-2"'),
        ("public heads", "[0.5, 1]", '"0.5"'),
        ("texts of tasks", "[synonyms]", '[synonyms]\n" a" = [" b"]'),
        ("texts of tasks", "[synonyms]", '[synonyms]\n" a" = 1'),
        ("texts of tasks", "lead = ", "leed = "),
        ("gsm8k", '"question": "1+1?"', '"question": ["1+1?", "2"]'),
        ("gsm8k", '"question"', '"question": "2+2?", "question"'),
    ],
)  # fmt: skip
def test_a_text_for_a_list_or_a_list_for_a_text_is_refused(name: str, old: str, new: str, place: Path) -> None:
    """Never read as its letters, or as it prints; nor is one of two values of a name dropped."""
    read, valid = READERS[name]
    assert old in valid
    (place / "file").write_text(valid.replace(old, new, 1))
    with pytest.raises(UserError) as refusal:
        read(place / "file")
    assert str(refusal.value).endswith(".")
    assert "\n" not in str(refusal.value)
