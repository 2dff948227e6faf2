"""A virtual environment for each tool, made once, with pinned packages; and a clone for tools without a release."""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.peers.catalogue import TORCH, Peer
from interp.errors import RunError

SCRIPTS = Path(__file__).with_name("theirs")


def python_of(peer: Peer, folder: Path) -> Path:
    """Returns the interpreter that has the tool; its environment is made on first use.

    Raises RunError when the packages cannot be installed.
    """
    if not peer.requirements:
        return Path(sys.executable)
    packages = (TORCH, *peer.requirements)
    place = folder / hashlib.sha256(" ".join((*packages, *peer.alone)).encode()).hexdigest()[:12]
    python, finished = place / "bin" / "python", place / "installed"
    if not finished.exists():
        venv.create(place, with_pip=True, clear=True)
        install = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        _call([*install, *packages], peer)
        if peer.alone:
            _call([*install, "--no-deps", *peer.alone], peer)
        finished.touch()
    return python


def source_of(peer: Peer, folder: Path, given: dict[str, Path]) -> Path | None:
    """Returns the folder with the tool's own files at its commit, for tools without a release.

    `given` are folders by script name that are there already. Raises RunError when it cannot be cloned.
    """
    if not peer.repository:
        return None
    place = folder / f"{peer.repository.rpartition('/')[2]}-{peer.commit[:12]}"
    if not place.exists():
        address = str(given.get(peer.script, peer.repository))
        aside = place.with_suffix(".partial")
        _call(["git", "clone", "--quiet", address, str(aside)], peer)
        _call(["git", "-C", str(aside), "checkout", "--quiet", peer.commit], peer)
        aside.rename(place)
    return place


def run_theirs(peer: Peer, python: Path, source: Path | None, inputs: Path, output: Path) -> None:
    """Runs a tool's script on the inputs.

    Raises RunError with the last line it said when it fails.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    if source is not None:
        environment["PEER_SOURCE"] = str(source)
    _call([str(python), str(SCRIPTS / f"ask_{peer.script}.py"), str(inputs), str(output)], peer, environment)


def _call(words: list[str], peer: Peer, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["no word"]
        raise RunError(f"{peer.name}: {Path(words[0]).name} failed with: {said[-1]}")
