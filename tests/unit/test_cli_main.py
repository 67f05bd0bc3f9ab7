"""``siren`` itself, and where its commands look for jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_siren.cli.main import main
from pytest_siren.cli.rootdir import jobs_folder, root_folder


def test_without_arguments_it_shows_its_help_with_examples(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("usage: siren")
    assert "siren config validate    check" in shown.err


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (["reslts"], "results"),
        (["jobs", "lst"], "list"),
        (["config", "valdate"], "validate"),
        (["run", "atack"], "attack"),
    ],
)
def test_a_misspelt_command_names_the_nearest(
    words: list[str], nearest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert f"{words[-1]!r}: did you mean {nearest!r}?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "text", "jobs"),
    [
        ("pytest.ini", "", "jobs"),
        ("pytest.ini", "[pytest]\nsiren_jobs_dir = runs/all\n", "runs/all"),
        ("pyproject.toml", "[tool.pytest.ini_options]\nsiren_jobs_dir = 'runs'\n", "runs"),
        ("pyproject.toml", "[tool.pytest]\n", "jobs"),
        ("tox.ini", "[pytest]\n", "jobs"),
        ("setup.cfg", "[tool:pytest]\nsiren_jobs_dir = runs\n", "runs"),
    ],
)
def test_jobs_are_looked_for_where_pytest_puts_them(
    file: str, text: str, jobs: str, tmp_path: Path
) -> None:
    (tmp_path / file).write_text(text)
    below = tmp_path / "evals" / "deep"
    below.mkdir(parents=True)
    assert jobs_folder(below) == tmp_path / jobs
    assert root_folder(below) == tmp_path
    # Whoever is in a folder with jobs means those.
    (below / "jobs").mkdir()
    assert jobs_folder(below) == Path("jobs")


def test_files_that_are_not_pytests_make_no_root(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("")
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    (project / "setup.cfg").write_text("[metadata]\n")
    assert root_folder(project) == tmp_path


def test_commands_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pytest.ini").write_text("")
    (tmp_path / "jobs").mkdir()
    (tmp_path / "evals").mkdir()
    monkeypatch.chdir(tmp_path / "evals")
    assert main(["jobs", "list"]) == 2
    assert str(tmp_path / "jobs") in "".join(capsys.readouterr())
