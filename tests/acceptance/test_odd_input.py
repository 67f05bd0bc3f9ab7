"""Options, names, notes and places that nobody means are one line, and nothing hangs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.command import Command
from tests.acceptance.conftest import Project

LONG = "n" * 300


@pytest.mark.inside
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--gate", "pass@200000000 >= 0.1"], "k may be 10,000 at most"),
        (["--runs", "100000000"], "--runs may be 10,000 at most, not 100,000,000"),
        (["--pass-k", "99999999999"], "--pass-k may be 10,000 at most"),
        (["--job-name", ".."], "--job-name: job name '..' cannot be a folder"),
        (["--job-name", "a/b"], "--job-name: job name 'a/b' cannot be a folder"),
        (["--job-name", LONG], "is longer than 200 bytes"),
        (["--resume", LONG], "no job, sweep or glob"),
        (["--resume", "../" * 20 + LONG], "no job, sweep or glob"),
        (["--baseline", LONG], "no job, sweep or glob"),
    ],
)
def test_options_that_nobody_means_are_usage_errors(
    project: Project, args: list[str], message: str
) -> None:
    result = project.run("evals", *args)
    said = result.stdout.str() + result.stderr.str()
    assert result.ret == pytest.ExitCode.USAGE_ERROR, said
    assert message in said
    assert "Traceback" not in said


@pytest.mark.inside
def test_a_name_that_is_too_long_for_any_file_is_an_unknown_attack(project: Project) -> None:
    result = project.run("evals", f"--attack={LONG}")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*unknown attack 'nnn*"])


@pytest.mark.inside
def test_more_runs_than_a_session_can_hold_are_refused_before_they_are_made(
    project: Project,
) -> None:
    tasks = "\n".join(f"- {{id: t{number}, prompt: x}}" for number in range(101))
    project.write("evals/t.yaml", tasks)
    project.write(
        "evals/eval_many.yaml",
        "dataset: {type: inline, config: {tasks_file: t.yaml}}\n"
        'agent: {config: {model: "scripted:echo"}}\nruns: 10000\n',
    )
    result = project.run("evals/eval_many.yaml")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*101 tasks x 10,000 runs are 1,010,000 runs, and a job may*"])


@pytest.mark.inside
def test_a_job_name_of_an_eval_file_is_checked_before_anything_runs(project: Project) -> None:
    path = project.path / "evals/eval_mail.yaml"
    path.write_text(path.read_text() + "output: {job_name: '..'}\n")
    result = project.run("evals")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["evals/eval_mail.yaml: output.job_name: job name '..' cannot*"])


@pytest.mark.inside
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("jobs", []),
        ("jobs", {"a": 1}),
        ("jobs_dir", 3),
        ("sweep", ["x"]),
        ("target", {}),
        ("latest", "yes"),
        ("invocation", "x"),
        ("invocation", {"runs": "3"}),
        ("invocation", {"runs": -1}),
        ("invocation", {"runs": 10**9}),
        ("invocation", {"attack": "x"}),
        ("invocation", {"args": [1]}),
        ("invocation", {"benign": "no"}),
    ],
)
def test_a_damaged_note_of_the_last_session_is_named(
    project: Project, field: str, value: Any
) -> None:
    assert project.run("evals", "-k", "summary").ret == pytest.ExitCode.OK
    note = project.path / ".pytest_cache/v/siren/session"
    note.write_text(json.dumps({**json.loads(note.read_text()), field: value}))
    result = project.run("--lf")
    said = result.stdout.str() + result.stderr.str()
    assert result.ret == pytest.ExitCode.USAGE_ERROR, said
    assert (
        f"the note of the last evaluations in pytest's cache (siren/session) is damaged: {field}"
        in said
    )
    assert "Traceback" not in said
    # A session of ordinary tests only rewrites it.
    project.write("test_plain.py", "def test_plain(): pass\n")
    assert project.run("test_plain.py").ret == pytest.ExitCode.OK


@pytest.mark.inside
def test_brackets_in_the_path_of_a_project_do_not_stop_lf(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = project.path / "pro[ject] {1}"
    project.write("pro[ject] {1}/pytest.ini", "[pytest]\n")
    for name in ("conftest.py", "evals"):
        (project.path / name).rename(root / name)
    monkeypatch.chdir(root)
    assert project.run("evals", "--runs=2", "-x", "-k", "summary").ret == pytest.ExitCode.OK
    result = project.run("--lf")
    assert result.ret == pytest.ExitCode.OK, result.stdout.str() + result.stderr.str()
    result.stdout.fnmatch_lines(["recorded: 2 of 2 runs*"])


@pytest.mark.parametrize("name", ["eval_pipe.yaml", "other.yaml"])
def test_an_eval_file_that_is_a_pipe_does_not_hang(project: Project, name: str) -> None:
    os.mkfifo(project.path / "evals" / name)
    result = project.pytester.runpytest_subprocess(f"evals/{name}", timeout=60)
    assert result.ret != pytest.ExitCode.OK
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


@pytest.mark.inside
def test_records_that_are_removed_while_the_session_runs_are_missed(
    distributed: Project,
) -> None:
    with open(distributed.path / "conftest.py", "a", encoding="utf-8") as conftest:
        conftest.write(
            """
import shutil

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session):
    if not hasattr(session.config, "workerinput"):
        for folder in Path(session.config.rootpath).glob("jobs/*/summary"):
            shutil.rmtree(folder)
"""
        )
    result = distributed.run("evals")
    said = result.stdout.str()
    assert result.ret == pytest.ExitCode.TESTS_FAILED, said
    result.stdout.fnmatch_lines(["ERROR: the record of 1 run was removed from *jobs/*ran"])


def siren(project: Project, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest_siren", *args],
        cwd=project.path,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
        **options,
    )


@pytest.mark.inside  # Only the command that writes needs processes.
def test_siren_answers_on_a_full_disk_and_in_ascii(project: Project, command: Command) -> None:
    path = project.path / "evals/eval_mail.yaml"
    path.write_text(path.read_text().replace("name: mail", "name: Dépêche"), encoding="utf-8")
    assert project.run("evals").ret == pytest.ExitCode.OK
    with Path("/dev/full").open("w") as full:
        result = siren(project, "results", stdout=full)
    assert (result.returncode, result.stderr) == (
        2,
        "siren: the output cannot be written: No space left on device\n",
    )
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    result = siren(project, "results", stdout=subprocess.PIPE, env=ascii_only)
    assert (result.returncode, result.stderr) == (0, "")
    assert "D\\xe9p" in result.stdout
    assert command("results", "--k", "99999999999").code == 2


def test_siren_says_of_empty_folders_that_they_are_empty(
    project: Project, command: Command
) -> None:
    (project.path / "jobs").mkdir()
    for args, message in (
        (["results"], "siren: there are no jobs in jobs\n"),
        (["jobs", "list"], "siren: there are no jobs in jobs\n"),
        (["jobs", "repair"], "siren: there are no jobs in jobs\n"),
        (["report", "*", "-o", "r.html"], "no job, sweep or glob '*' in jobs"),
        (["compare", "a", "b"], "no job, sweep or glob 'a' in jobs"),
        (["bless", "*"], "no job, sweep or glob '*' in jobs"),
        (["diff", LONG, "b"], "no job, sweep or glob 'nnn"),
        (["results", "--jobs-dir", LONG], "there is no folder nnn"),
    ):
        answer = command(*args)
        assert answer.code == 2
        assert message in answer.errors
        assert "Traceback" not in answer.errors
