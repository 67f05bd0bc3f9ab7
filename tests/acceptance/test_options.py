"""Options: the page that lists them, and the errors that they give."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import Project

pytestmark = pytest.mark.inside

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "options.md"


def test_the_page_lists_exactly_the_options_that_help_shows(project: Project) -> None:
    text = project.run("--help").stdout.str()
    ours = text.partition("evaluations of LLM agents (pytest-siren):")[2].split("\n\n")[0]
    shown = set(re.findall(r"^  (--[\w-]+)", ours, re.MULTILINE))
    listed = set(re.findall(r"^\| `(--[\w-]+)", PAGE.read_text(), re.MULTILINE))
    assert listed == shown
    assert {"--attack", "--model", "--set"} <= shown
    inis = set(re.findall(r"^  (siren_\w+) \(", text, re.MULTILINE))
    assert set(re.findall(r"^\| `(siren_\w+)`", PAGE.read_text(), re.MULTILINE)) == inis


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--runs=0"], "--runs must be at least 1, not 0"),
        (["--pass-k=0"], "--pass-k must be at least 1, not 0"),
        (["--concurrency=-1"], "--concurrency must be at least 1, not -1"),
        (["--attack=a,,b"], "--attack has an empty name"),
        (["--set", "runs"], "--set runs: expected KEY=VALUE or ~KEY"),
        (["--slurm", "--slurm-time=0"], "--slurm-time must be at least 1, not 0"),
        (["--slurm", "--slurm-shards=0"], "--slurm-shards must be at least 1, not 0"),
        (["--slurm", "--slurm-partition="], "--slurm-partition has an empty name"),
        (["--slurm-partition=p"], "--slurm-partition needs --slurm or --siren-executor"),
        (["--slurm-time=5"], "--slurm-time needs --slurm or --siren-executor"),
        (["--no-wait"], "--no-wait needs --slurm or --siren-executor"),
        (
            ["--no-wait", "--siren-executor=debug"],
            "--no-wait cannot be used with --siren-executor debug, whose elements this process "
            "executes",
        ),
        (
            ["--slurm", "--siren-executor=local"],
            "--slurm and --siren-executor local cannot be given together",
        ),
        (
            ["--siren-executor=local", "--slurm-partition=p"],
            "--slurm-partition cannot be used with --siren-executor local, which has none",
        ),
        (
            ["--siren-executor=dask", "--no-wait"],
            "--no-wait cannot be used with --siren-executor dask, whose cluster ends with the "
            "session: name a scheduler, dask:ADDRESS",
        ),
        (["--slurm", "--pdb"], "--slurm cannot be used with --pdb: no run is in this process"),
        (
            ["--slurm", "--dist=each", "--tx=popen"],
            "--slurm cannot be used with --dist each, which makes a job for every worker",
        ),
    ],
)
@pytest.mark.parametrize(
    "dist", [[], pytest.param(["-n2"], marks=pytest.mark.nightly)], ids=["alone", "-n2"]
)
def test_a_value_that_cannot_be_meant_is_a_usage_error(
    project: Project, args: list[str], message: str, dist: list[str]
) -> None:
    result = project.run("evals", *dist, *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])


def test_jobs_dir_option_and_ini_key(project: Project) -> None:
    project.write("pytest.ini", "[pytest]\nsiren_jobs_dir = kept/here\n")
    project.run("evals")
    assert len(list(project.path.glob("kept/here/*/config.yaml"))) == 1
    project.run("evals", "--jobs-dir=elsewhere", "-n2")
    assert len(list(project.path.glob("elsewhere/*/config.yaml"))) == 1


def test_a_named_job_is_not_written_into_by_another_session(project: Project) -> None:
    assert project.run("evals", "--job-name=mine").ret == pytest.ExitCode.OK
    again = project.run("evals", "--job-name=mine")
    assert again.ret == pytest.ExitCode.INTERRUPTED
    again.stdout.fnmatch_lines(["*job 'mine' already exists*continue it with --resume mine*"])
    assert len(project.results()) == 2


@pytest.mark.parametrize(
    ("args", "ini", "shown", "population"),
    [
        ([], "", "n/a (2 malicious tasks)", "other benign and malicious tasks like these"),
        (["--siren-cluster=benign"], "", "n/a (2 benign tasks)", "other benign tasks like these"),
        ([], "malicious", "n/a (2 malicious tasks)", "other malicious tasks like these"),
        (["--siren-cluster=couple"], "malicious", "[[]0.000, 0.602]", "these couples, other draws"),
        ([], "none", "[[]0.000, 0.602]", "independent runs"),
    ],
    ids=["default", "option", "ini", "the option wins", "none"],
)
def test_intervals_speak_of_the_population_that_was_asked_for(
    project: Project, args: list[str], ini: str, shown: str, population: str
) -> None:
    # None of 4 couples, of 2 benign and 2 malicious tasks: the exact limit is 1 - 0.025 ** (1 / n).
    project.write("pytest.ini", f"[pytest]\nsiren_cluster = {ini}\n")
    options = ["--attack=template_string", "--model=scripted:deaf", *args]
    result = project.run("evals", *options)
    result.stdout.fnmatch_lines(
        [f"  ASR * 0.000 {shown}*", f"intervals of attacked runs speak of {population}*"]
    )


def test_an_unknown_cluster_is_a_usage_error(project: Project) -> None:
    project.write("pytest.ini", "[pytest]\nsiren_cluster = task\n")
    result = project.run("evals")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: siren_cluster must be one of crossed, benign, malicious, couple, none, not 'task'"]
    )


SHORT = sorted(set(re.findall(r"^\| `(--(?!siren-)[\w-]+)", PAGE.read_text(), re.MULTILINE)))
THEIRS = """
def pytest_addoption(parser):
    for name in {names}:
        parser.addoption(name, default="theirs")
"""
READS_THEIRS = """
def test_own_options(pytestconfig):
    assert pytestconfig.getoption("model") == pytestconfig.getoption("--model") == "abc"
    assert pytestconfig.getoption("runs") == "theirs"
"""


def _install(project: Project, monkeypatch: pytest.MonkeyPatch, *, first: bool) -> None:
    """Install a plugin whose entry point comes before, or after, those of the environment."""
    folder = project.path / "site"
    project.write("site/their_plugin.py", THEIRS.format(names=SHORT))
    project.write("site/their-1.0.dist-info/METADATA", "Name: their\nVersion: 1.0\n")
    project.write("site/their-1.0.dist-info/entry_points.txt", "[pytest11]\ntheir = their_plugin\n")
    monkeypatch.setattr(
        sys, "path", [str(folder), *sys.path] if first else [*sys.path, str(folder)]
    )


@pytest.mark.parametrize("whose", ["conftest", "earlier plugin", "later plugin", "-p"])
def test_a_project_keeps_its_own_options_of_the_same_names(
    project: Project, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    assert {"--model", "--attack", "--gate", "--baseline", "--no-gate-stop"} <= {*SHORT}
    project.write("test_theirs.py", READS_THEIRS)
    args = ["--model", "abc"]
    if whose == "conftest":
        conftest = project.path / "conftest.py"
        conftest.write_text(conftest.read_text() + THEIRS.format(names=SHORT))
    elif whose == "-p":
        project.write("p_plugin.py", THEIRS.format(names=SHORT))
        monkeypatch.syspath_prepend(project.path)
        args += ["-p", "p_plugin"]
    else:
        _install(project, monkeypatch, first=whose == "earlier plugin")
    result = project.run(*args, "test_theirs.py")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        ["siren: --model is not pytest-siren's in this project: use --siren-model"]
    )
    evaluated = project.run(
        *args, "evals", "--siren-model", "scripted:deaf", "--siren-attack", "template_string",
        "--siren-runs=2", "--siren-task-ids", "advert", "--siren-gate=asr <= 0",
        "--siren-gate-on", "point",
    )  # fmt: skip
    assert evaluated.ret == pytest.ExitCode.OK
    evaluated.assert_outcomes(passed=4)
    evaluated.stdout.fnmatch_lines(["HELD asr <= 0*"])


def test_long_names_work_in_every_project(project: Project) -> None:
    result = project.run("evals", "--siren-model=scripted:deaf", "--siren-benign", "--runs=2")
    result.assert_outcomes(failed=4)
    result.stdout.no_fnmatch_line("siren: *")


def test_a_conftest_below_may_define_the_same_options(project: Project) -> None:
    project.write("pkg/unit/conftest.py", THEIRS.format(names=SHORT))
    project.write("pkg/unit/test_below.py", "def test_below():\n    pass\n")
    result = project.run("--ignore=evals")
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=1)


def test_values_of_options_are_not_taken_for_folders_with_a_conftest(project: Project) -> None:
    # Where "lib" were an argument, its conftest would be loaded first, and tests/conftest.py late.
    project.write("pytest.ini", "[pytest]\ntestpaths = tests\n")
    project.write("lib/conftest.py", "raise RuntimeError('not a conftest of this session')\n")
    project.write("tests/conftest.py", THEIRS.format(names=["--theirs"]))
    project.write("tests/test_one.py", "def test_one():\n    pass\n")
    result = project.run("--jobs-dir", "lib", "--theirs=x")
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=1)


def test_a_configuration_is_shown_where_workers_are_asked_for(project: Project) -> None:
    result = project.run("evals", "-n2", "--show-config")
    assert result.ret == 0
    assert "scripted:echo" in result.stdout.str()
    assert not project.jobs()
