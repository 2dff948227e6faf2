"""The house keeps its plan: every import arrow runs down, heavy and unsafe packages stay where they belong."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("interp", "figures", "probes")
UNSAFE = ("pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal")
HEAVY = ("torch", "transformers", "pandas")


def imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Every imported name in full: `from interp import tables` is interp.tables, relative imports from their package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from (str(argument.value) for argument in node.args[:1] if isinstance(argument, ast.Constant))


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def why_not(path: Path, name: str) -> str | None:
    """The rule that an import breaks, or None. `path` is relative to the root."""
    floor, wing = path.parts[0], path.parts[1]
    above = {"interp": ("probes", "figures"), "figures": ("probes",), "probes": ()}[floor]
    top = name.partition(".")[0]
    if top in above:
        return f"{floor} stands below {top}"
    if floor == "figures" and top == "interp" and not within(name, "interp.tables"):
        return "figures reads tables and nothing else of interp"
    if floor == "probes" and top == "probes" and not within(name, f"probes.{wing}"):
        return "a probe imports no other probe"
    if top in ("tests", "benchmarks"):
        return f"nothing stands on {top}"
    if top == "nnsight" and path.as_posix() != "interp/models/image/tracing.py":
        return "nnsight is called in interp/models/image/tracing.py only"
    if top in UNSAFE:
        return "no pickle is read or written"
    return None


def broken_rules(root: Path) -> list[str]:
    """One line per offence, with the file, the line and the import or call."""
    found = []
    for path in sorted(path for floor in FLOORS for path in (root / floor).rglob("*.py")):
        place = path.relative_to(root)
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
        package = ".".join(place.parts[:-1])
        for name in imports(tree, package):
            reason = why_not(place, name)
            if reason:
                found.append(f"{place.as_posix()} imports {name}: {reason}")
        found += [f"{place.as_posix()} line {line}: {reason}" for line, reason in unsafe_calls(tree)]
    return found


def unsafe_calls(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        for keyword in node.keywords:
            switched_off = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            if keyword.arg in ("trust_remote_code", "allow_pickle") and not switched_off:
                yield node.lineno, f"{keyword.arg} is switched on"
        function = ast.unparse(node.func)
        if function == "torch.load" or function.endswith((".read_pickle", ".to_pickle")):
            yield node.lineno, f"{function} reads or writes a pickle"


def test_every_arrow_runs_down_and_nothing_unsafe_is_used():
    offences = broken_rules(ROOT)
    assert not offences, "The floors of DESIGN.md section 2 do not hold:\n" + "\n".join(offences)


@pytest.mark.parametrize(
    ("path", "line", "offence"),
    [
        (
            "interp/a.py",
            "import probes.one.measure",
            "interp/a.py imports probes.one.measure: interp stands below probes",
        ),
        ("interp/models/a.py", "from figures import style", "imports figures.style: interp stands below figures"),
        ("interp/models/a.py", "def f():\n    from figures.style import theme", "interp stands below figures"),
        ("interp/a.py", "import importlib\nimportlib.import_module('probes.one')", "imports probes.one"),
        ("interp/models/a.py", "from ...probes.one import x", "imports probes.one.x"),
        ("figures/a.py", "from probes.one import x", "figures stands below probes"),
        ("figures/a.py", "from interp.statistics import spearman", "figures reads tables and nothing else of interp"),
        ("figures/a.py", "from interp import statistics, tables", "imports interp.statistics:"),
        ("probes/one/a.py", "from probes.two.measure import x", "a probe imports no other probe"),
        ("probes/one/a.py", "from ..two import x", "imports probes.two.x"),
        ("probes/one/a.py", "from tests.tiny_models import tiny", "nothing stands on tests"),
        ("interp/a.py", "import benchmarks", "nothing stands on benchmarks"),
        (
            "interp/models/language/model.py",
            "import nnsight",
            "nnsight is called in interp/models/image/tracing.py only",
        ),
        ("interp/a.py", "from pickle import load", "no pickle is read or written"),
        ("interp/a.py", "f(\n    trust_remote_code=True)", "interp/a.py line 1: trust_remote_code is switched on"),
        ("interp/a.py", "f(trust_remote_code=option)", "trust_remote_code is switched on"),
        ("interp/a.py", "numpy.load(p, allow_pickle=True)", "allow_pickle is switched on"),
        ("probes/one/a.py", "weights = torch.load(p)", "torch.load reads or writes a pickle"),
    ],
)
def test_a_planted_offence_is_named_by_file_and_import(tmp_path, path, line, offence):
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(line)
    (told,) = broken_rules(tmp_path)
    assert path in told
    assert offence in told


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("interp/models/image/tracing.py", "import nnsight"),
        (
            "interp/a.py",
            "from interp.models.language.prefix import Prefix\nfrom .models import load\nf(trust_remote_code=False)",
        ),
        (
            "figures/a.py",
            "from interp.tables import Tables\nfrom interp import tables\nfrom figures.style import theme",
        ),
        (
            "probes/one/a.py",
            "from probes.one.b import x\nfrom .b import y\nfrom figures import one\nimport interp.tables",
        ),
        ("probes/one/a.py", "import probestats, testsuite, figures_of_speech"),
    ],
)
def test_what_the_plan_allows_is_not_called_an_offence(tmp_path, path, line):
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(line)
    assert broken_rules(tmp_path) == []


# ---------------------------------------------------------------------- circles

ALLOWED = {("interp/experiments/experiment.py", f"interp/experiments/{name}.py") for name in ("run", "runner")}
"""`Experiment.run` reaches the runner, which needs experiments."""


def arrows(root: Path, floors: Iterable[str] = FLOORS) -> dict[str, set[str]]:
    """The files that each file of these floors imports: at the top, inside functions and under TYPE_CHECKING alike."""
    paths = [path.relative_to(root) for floor in floors for path in sorted((root / floor).rglob("*.py"))]
    files = {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path.as_posix() for path in paths}
    found: dict[str, set[str]] = {}
    for path in paths:
        here = path.as_posix()
        tree = ast.parse((root / path).read_text(encoding="utf-8"), filename=here)
        names = (home(name, files) for name in imports(tree, ".".join(path.parts[:-1])))
        found[here] = {files[name] for name in names if name} - {here}
        found[here] -= {there for start, there in ALLOWED if start == here}
    return found


def home(name: str, files: Mapping[str, str]) -> str | None:
    """The module that an imported name is in: itself, or what stands before its dots."""
    while name and name not in files:
        name = name.rpartition(".")[0]
    return name or None


def circles(found: Mapping[str, set[str]]) -> list[str]:
    """One line per set of files that import each other, be it through others."""

    def reached(start: str) -> set[str]:
        seen, waiting = set(), [start]
        while waiting:
            new = found[waiting.pop()] - seen
            seen |= new
            waiting += new
        return seen

    after = {file: reached(file) for file in found}
    tied = {frozenset(other for other in after[file] if file in after[other]) for file in found}
    return sorted(" ".join(sorted(circle)) for circle in tied if circle)


def hub_users(found: Mapping[str, set[str]]) -> list[str]:
    """One line per file of a wing that imports the wing's experiment.py: its settings are in settings.py."""
    return [
        f"{file} imports {hub}"
        for file, others in found.items()
        if file.startswith("probes/") and (hub := f"probes/{file.split('/')[1]}/experiment.py") in others
    ]


@pytest.mark.parametrize("floor", FLOORS)
def test_no_two_files_import_each_other(floor):
    found = circles(arrows(ROOT, [floor]))
    assert not found, "These files import each other in a circle:\n" + "\n".join(found)


def test_nothing_in_a_wing_imports_its_experiment():
    offences = hub_users(arrows(ROOT, ["probes"]))
    assert not offences, "A wing's experiment.py uses the whole wing:\n" + "\n".join(offences)


@pytest.mark.parametrize(
    "line",
    [
        "import probes.one.b",
        "from probes.one.b import x",
        "from probes.one import b",
        "from .b import x",
        "def f():\n    from probes.one.b import x",
        "if TYPE_CHECKING:\n    from probes.one.b import X",
        "import importlib\nimportlib.import_module('probes.one.b')",
        "from probes.one.c import x",
    ],
)
def test_a_planted_circle_is_named_with_its_files(tmp_path, line):
    (tmp_path / "probes/one").mkdir(parents=True)
    files = {
        "a": line,
        "b": "from probes.one import a",
        "c": "from probes.one import b",
        "experiment": "from . import a",
    }
    for name, content in files.items():
        (tmp_path / f"probes/one/{name}.py").write_text(content)
    (told,) = circles(arrows(tmp_path, ["probes"]))
    assert {"probes/one/a.py", "probes/one/b.py"} <= set(told.split()) <= {f"probes/one/{name}.py" for name in "abc"}
    assert hub_users(arrows(tmp_path, ["probes"])) == []


def test_a_planted_use_of_the_hub_is_named(tmp_path):
    (tmp_path / "probes/one").mkdir(parents=True)
    (tmp_path / "probes/one/experiment.py").write_text("")
    (tmp_path / "probes/one/plan.py").write_text("if TYPE_CHECKING:\n    from probes.one.experiment import One")
    assert hub_users(arrows(tmp_path, ["probes"])) == ["probes/one/plan.py imports probes/one/experiment.py"]
    assert circles(arrows(tmp_path, ["probes"])) == []


# ---------------------------------------------------------------------- the front door


def experiments() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return list(project["entry-points"]["interp.experiments"])


HELP = f"""
import sys
from interp.experiments.__main__ import main
try:
    sys.exit(main(sys.argv[1:]))
finally:
    print("loaded:", *(name for name in {HEAVY} if name in sys.modules))
"""


@pytest.mark.parametrize(
    "words", [["--help"], ["list"], ["models"], *([name, "--help"] for name in experiments())], ids=" ".join
)
def test_help_and_lists_answer_without_torch_transformers_or_pandas(words):
    outcome = subprocess.run(
        [sys.executable, "-c", HELP, *words], capture_output=True, text=True, check=False, cwd=ROOT
    )
    stale = "is the package installed anew since pyproject.toml changed?"
    assert outcome.returncode == 0, f"{outcome.stderr or outcome.stdout}\n{stale}"
    *text, loaded = outcome.stdout.splitlines()
    assert loaded == "loaded:", f"{' '.join(words)} {loaded}"
    assert text
    if words in (["--help"], ["list"]):
        shown = {line.split()[0] for line in text if line.strip()}
        assert set(experiments()) <= shown, stale
