from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pytest_siren import __version__
from pytest_siren.cli.main import main
from pytest_siren.models.weights import place
from tests.unit.test_models_weights import CONTENT, TINY, make_wheel
from tests.unit.test_models_weights import registry as bare_registry

__all__ = ["bare_registry"]

SIREN = [sys.executable, "-m", "pytest_siren"]


@pytest.fixture
def registry(bare_registry: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("pytest_siren.cli.models.CATALOGUE", {"tiny": TINY})
    return bare_registry


def test_pull_fetches_all_and_says_so(registry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_wheel(registry)
    assert main(["models", "pull"]) == 0
    assert place(TINY).read_bytes() == CONTENT
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "tiny: downloading siren-tiny-weights 1.0 (0 MB)"
    assert out.splitlines()[-1] == f"tiny: now at {place(TINY)}"
    assert err == ""


def test_list_shows_what_is_present_absent_and_damaged(
    registry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_wheel(registry)

    def shown() -> str:
        capsys.readouterr()
        assert main(["models", "list"]) == 0
        return capsys.readouterr().out

    line = f"local:tiny  0 MB  MIT  {{}}  {place(TINY)}\n"
    assert shown() == line.format("absent")
    main(["models", "pull"])
    assert shown() == line.format("present")
    place(TINY).write_text("")
    assert shown() == line.format("damaged")


def test_a_name_that_is_not_in_the_catalogue_is_no_answer(
    registry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "pull", "tinny"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "siren: unknown local model 'tinny' (did you mean 'tiny'?); known: tiny\n"


def test_a_failing_download_is_no_answer_and_no_traceback(
    registry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "pull", "tiny"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("siren: this command failed with exit code 1: ")
    assert "Traceback" not in err


def test_a_cache_that_cannot_be_written_is_no_answer(
    registry: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SIREN_CACHE_DIR", str(tmp_path / "file"))
    assert main(["models", "pull"]) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err


@pytest.mark.parametrize("args", [["models"], ["models", "push"], ["--no-such-option"]])
def test_wrong_usage_exits_with_2_and_shows_the_usage(
    args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        main(args)
    assert raised.value.code == 2
    assert capsys.readouterr().err.startswith("usage: siren")


def test_the_version_is_that_of_the_plugin(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["--version"])
    assert raised.value.code == 0
    assert capsys.readouterr().out == f"pytest-siren {__version__}\n"


def test_the_module_is_the_command(tmp_path: Path) -> None:
    done = subprocess.run([*SIREN, "models", "list"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("local:smollm2-135m  98 MB  Apache-2.0  ")


def test_a_reader_that_goes_away_is_met_in_silence() -> None:
    with subprocess.Popen(
        [*SIREN, "models", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_a_full_disk_is_no_answer() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*SIREN, "models", "list"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr == "siren: the output cannot be written: No space left on device\n"
