"""Report formats that a conftest.py registers are written by sessions and by siren report."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_siren.cli.main import main
from tests.acceptance.conftest import Project

pytestmark = pytest.mark.inside

FORMATS = """
from pytest_siren import Component, Kind
from pydantic import BaseModel


class Nothing(BaseModel):
    pass


def counts(path, report):
    lines = [f"{model} {len(runs)}" for model, runs in report.runs.groupby("model")]
    path.write_text("\\n".join([report.title, *lines]))


def fails(path, report):
    raise KeyError("colour")


def pytest_siren_components_register(registry):
    registry.add(Kind.REPORT, "counts", Component(Nothing, lambda config, folder: counts))
    registry.add(Kind.REPORT, "fails", Component(Nothing, lambda config, folder: fails))
"""


@pytest.fixture
def formats(distributed: Project) -> Project:
    distributed.write("formats.py", FORMATS)
    with open(distributed.path / "conftest.py", "a") as conftest:
        conftest.write('\npytest_plugins = ["formats"]\n')
    return distributed


def test_a_session_writes_it(formats: Project) -> None:
    done = formats.run("evals", "--attack=direct", "--siren-report=counts:new/out.txt")
    assert (formats.path / "new/out.txt").read_text().splitlines()[1:] == ["scripted:echo 4"]
    assert "report: new/out.txt" in done.stdout.str()


def test_the_ini_key_takes_it_too(formats: Project) -> None:
    formats.write("pytest.ini", "[pytest]\nsiren_report = counts:out.txt\n")
    formats.run("evals")
    assert "scripted:echo 2" in (formats.path / "out.txt").read_text()


def test_siren_report_writes_it(
    formats: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    formats.run("evals")
    [job] = formats.jobs()
    monkeypatch.chdir(formats.path)
    assert main(["report", job.name, "--output", "counts:out.txt", "--title", "T"]) == 0
    assert (formats.path / "out.txt").read_text() == "T\nscripted:echo 2"
    capsys.readouterr()
    assert main(["report", job.name, "--output", "count:out.txt"]) == 2
    message = "count:out.txt: unknown report format 'count' (did you mean 'counts'?); known: "
    assert f"{message}counts, fails, html, markdown, sarif" in capsys.readouterr().err
    assert main(["report", job.name, "--output", "fails:out.txt"]) == 2
    assert "the report format 'fails' failed for" in capsys.readouterr().err


def test_a_format_that_ships_may_be_named(formats: Project) -> None:
    formats.run("evals", "--siren-report=markdown:out.txt", "--siren-report=html:page")
    assert (formats.path / "out.txt").read_text().startswith("#")
    assert (formats.path / "page/index.html").exists()


def test_a_misspelt_name_is_a_usage_error(formats: Project) -> None:
    done = formats.run("evals", "--siren-report=counst:out.txt")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    message = "--siren-report: counst:out.txt: unknown report format 'counst' "
    assert f"{message}(did you mean 'counts'?); known: counts" in done.stderr.str()
    assert formats.jobs() == []


def test_a_path_may_hold_a_colon(formats: Project) -> None:
    formats.run("evals", "--siren-report=of:today.md")
    assert (formats.path / "of:today.md").exists()


def test_a_format_that_fails_is_named_and_fails_the_session(formats: Project) -> None:
    eval_file = formats.path / "evals/eval_mail.yaml"
    eval_file.write_text(eval_file.read_text() + "pass_when: {benign: always}\n")
    done = formats.run("evals", "--siren-report=fails:out.txt", "--siren-report=counts:c.txt")
    message = f"ERROR: the report format 'fails' failed for {Path(formats.path, 'out.txt')}"
    assert f"{message}: KeyError: 'colour'" in done.stdout.str()
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    assert (formats.path / "c.txt").exists()


def test_a_hook_that_fails_is_a_usage_error(formats: Project) -> None:
    text = (formats.path / "formats.py").read_text()
    formats.write(
        "formats.py",
        text.replace(
            '    registry.add(Kind.REPORT, "c', '    1 / 0\n    registry.add(Kind.REPORT, "c'
        ),
    )
    done = formats.run("evals", "--siren-report=counts:out.txt")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    assert "pytest_siren_components_register: ZeroDivisionError" in done.stderr.str()
