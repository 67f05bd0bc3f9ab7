"""``--siren-report``, and what GitHub Actions is told."""

from __future__ import annotations

import json
import re

import pytest

from pytest_siren.reports import sarif
from tests.acceptance.conftest import Project

pytestmark = pytest.mark.inside

ATTACK = ("evals", "--attack=template_string")


def test_reports_are_written_when_the_session_ends(project: Project) -> None:
    args = ("--siren-report=out/x.md", "--siren-report=x.sarif", "--runs=2")
    result = project.run(*ATTACK, "-n2", "--model=scripted:echo,scripted:crash", *args)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert [line for line in result.outlines if line.startswith("report: ")] == [
        "report: out/x.md",
        "report: x.sarif",
    ]
    text = (project.path / "out" / "x.md").read_text()
    assert "**8 runs scored, 8 in error**" in text
    assert "| 2 of 2 | `jobs/mail_plain_scripted_echo_" in text
    assert "execute what is left with `pytest --lf`" in text
    run = json.loads((project.path / "x.sarif").read_text())["runs"][0]
    assert len(run["results"]) == 4
    assert {one["occurrenceCount"] for one in run["results"]} == {2}
    assert "ZEPPELIN" in json.dumps(run["results"])
    assert run["invocations"][0]["executionSuccessful"] is False
    folders = [project.path / one["properties"]["record"] for one in run["results"]]
    assert all((folder / "result.json").is_file() for folder in folders)


def test_a_page_is_written_with_the_transcripts_of_the_session(project: Project) -> None:
    args = ("--siren-report=out/", "--siren-report=one.html", "--siren-transcripts=failed")
    result = project.run(*ATTACK, "--benign", "--model=scripted:deaf", "-n2", *args)
    assert [line for line in result.outlines if line.startswith("report: ")] == [
        "report: out",
        "report: one.html",
    ]
    text = (project.path / "one.html").read_text()
    assert "6 runs in 2 jobs on mail" in text
    found = re.search(r'id="data">(.*?)</script>', text)
    assert found
    transcripts = json.loads(found[1])["transcripts"]
    kept = [one for one in transcripts if "messages" in one]
    # Those that resisted passed, and passed runs keep no transcript here.
    assert (len(kept), len(transcripts)) == (2, 6)
    assert all("was not kept" in one["problems"][0] for one in transcripts if one not in kept)
    assert (project.path / "out" / "index.html").is_file()


def test_the_ini_key_and_pending_runs(project: Project) -> None:
    project.write("pytest.ini", "[pytest]\nsiren_report =\n  a.md\n  a.sarif\n")
    project.run(*ATTACK, "-x", "--concurrency=1")
    assert "execute what is left" in (project.path / "a.md").read_text()
    assert "3 pending**" in (project.path / "a.md").read_text()
    assert (project.path / "a.sarif").is_file()
    project.run("--lf", "--siren-report=b.md")
    assert "**4 runs scored, 0 in error**" in (project.path / "b.md").read_text()


@pytest.mark.parametrize(
    "dist", [[], pytest.param(["-n2"], marks=pytest.mark.nightly)], ids=["alone", "-n2"]
)
def test_an_unknown_kind_of_report_is_a_usage_error(project: Project, dist: list[str]) -> None:
    result = project.run("evals", *dist, "--siren-report=x.txt")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --siren-report: x.txt: no report is made *; known are .html, .md, .sarif, *"]
    )
    assert not (project.path / "jobs").exists()


def test_a_report_that_fails_hides_nothing_and_fails_a_session_that_passed(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The session may be one of this process: what it replaces is put back.
    monkeypatch.setattr(sarif, "sarif", sarif.sarif)
    project.write("file", "")
    with (project.path / "conftest.py").open("a") as file:
        file.write(
            "\nimport pytest_siren.reports.sarif\n"
            "pytest_siren.reports.sarif.sarif = lambda data: 1 / 0\n"
        )
    names = ("file/x.md", "x.sarif", "y.md")
    result = project.run("evals", *(f"--siren-report={name}" for name in names))
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "  utility 1.000*",
            "ERROR: cannot write */file/x.md: the folder */file cannot be used: */file is a file",
            "ERROR: cannot make */x.sarif, please report this:",
            "ZeroDivisionError: division by zero",
            "report: y.md",
        ]
    )
    assert (project.path / "y.md").is_file()


def test_it_keeps_the_exit_code_of_a_session_that_was_interrupted(project: Project) -> None:
    project.write("file", "")
    project.write(
        "evals/test_stop.py",
        """
        import pytest

        def test_stop():
            pytest.exit("enough", returncode=77)
        """,
    )
    result = project.run("evals", "--siren-report=file/x.md")
    assert result.ret == 77
    assert "ERROR: cannot write" in result.stderr.str()


def test_a_session_without_evaluations_writes_no_report(project: Project) -> None:
    project.write("test_plain.py", "def test_plain(): pass\n")
    result = project.run("test_plain.py", "--siren-report=x.md")
    assert result.ret == pytest.ExitCode.OK
    assert "no report: nothing was run to its end" in result.stdout.str()
    assert not (project.path / "x.md").exists()


@pytest.fixture
def summary(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project on GitHub Actions, with a summary that has a line."""
    project.write("summary.md", "before\n")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.path / "summary.md"))
    return project


def test_github_gets_a_summary_and_annotations_of_gates_that_do_not_hold(
    summary: Project,
) -> None:
    eval_file = summary.path / "evals" / "eval_mail.yaml"
    eval_file.write_text(eval_file.read_text() + "gates:\n  - asr <= 0.05\n")
    gates = ("--gate=utility_under_attack <= 0.99", "--gate=asr >= 0.02")
    result = summary.run(*ATTACK, "-n2", *gates, "--runs=2", "--siren-cluster=couple")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    line = len(eval_file.read_text().splitlines())
    said = [one for one in result.outlines if one.startswith("::")]
    place = f"file=evals/eval_mail.yaml,line={line},"
    assert said[0].startswith(f"::error {place}title=Gate broken%3A asr <= 0.05::")
    assert said[1].startswith("::warning title=Gate inconclusive%3A utility_under_attack <= 0.99::")
    assert len(said) == 2
    text = (summary.path / "summary.md").read_text()
    assert text.startswith("before\n## Evaluations of ")
    assert text.count("**8 runs scored, 0 in error**") == 1
    assert "❌ **3 gates: 1 held, 1 broken, 1 inconclusive**" in text


def test_a_gate_without_any_run_is_reported_too(project: Project) -> None:
    result = project.run("evals", "--gate=asr <= 0.5", "--siren-report=x.md", "-k", "nothing")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    text = (project.path / "x.md").read_text()
    assert "⚠️ **1 gate: 1 inconclusive**" in text


def test_a_summary_that_cannot_be_written_is_named_and_fails_nothing(
    summary: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary.path))
    result = summary.run("evals")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["ERROR: cannot write the summary of GitHub Actions *"])


def test_github_is_told_nothing_when_that_is_not_wanted(summary: Project) -> None:
    summary.write("pytest.ini", "[pytest]\nsiren_github = false\n")
    result = summary.run("evals", "--gate=utility <= 0.01")
    assert "BROKEN" in result.stdout.str()
    assert "::" not in "".join(line[:2] for line in result.outlines)
    assert (summary.path / "summary.md").read_text() == "before\n"


def test_a_report_says_what_changed_against_the_baseline(project: Project) -> None:
    project.run(*ATTACK, "--model=scripted:deaf", "--job-name=before")
    project.run(*ATTACK, "--baseline=before", "--siren-report=x.md")
    text = (project.path / "x.md").read_text()
    assert "### Against `before`" in text
    assert "| `asr` | 0.000 | 1.000 | +1.000 (" in text


@pytest.mark.inside
@pytest.mark.parametrize("suffix", ["html", "md", "sarif", "sarif.json", "folder/"])
@pytest.mark.parametrize("gates", [[], ["--gate", "asr <= 0.5"]], ids=["no gate", "gate"])
def test_a_session_of_a_collection_error_has_no_report(
    project: Project, suffix: str, gates: list[str]
) -> None:
    project.write("evals/eval_broken.yaml", "datset: {}\n")
    report = f"r.{suffix}" if suffix != "folder/" else suffix
    results = ["--results-format=json", "--results-output=r.json"]
    result = project.run(
        "evals", "--attack=direct", *gates, f"--siren-report={report}", *(results if gates else [])
    )
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*unknown key 'datset'*", "no report: nothing was run to its end"])
    said = result.stdout.str() + result.stderr.str()
    assert "Traceback" not in said
    assert "please report this" not in said
    assert not (project.path / report).exists()
    assert not (project.path / "r.json").exists()


@pytest.mark.inside
def test_a_session_without_evaluations_that_asks_for_everything_says_so(project: Project) -> None:
    result = project.run(
        "evals", "-k", "no_such_run", "--gate", "asr <= 0.5", "--siren-report=r.html",
        "--results-format=table",
    )  # fmt: skip
    assert result.ret != pytest.ExitCode.INTERNAL_ERROR
    said = result.stdout.str() + result.stderr.str()
    assert "no report: nothing was run to its end" in said
    assert "Traceback" not in said
