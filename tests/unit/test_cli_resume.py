"""prompt-siren's commands that resume and start jobs (P1, P2, P34 to P43)."""

from __future__ import annotations

import subprocess

import pytest

from pytest_siren.cli.main import main


@pytest.mark.parametrize(
    ("given", "made"),
    [
        (["-p", "jobs/a"], ["jobs/a", "--retry-on-error=CancelledError"]),
        (["-p", "jobs/a", "-e", ""], ["jobs/a", "--retry-on-error="]),
        (
            ["-s", "2026-01-31_17-01-04", "-d", "x", "-e", "A", "-e", "B", "--only-failed"],
            [
                "2026-01-31_17-01-04",
                "--jobs-dir=x",
                *("--retry-on-error=A", "--retry-on-error=B", "--only-failed"),
            ],
        ),
        (
            ["--pattern", "*_gpt-4o_*", "--dry-run", "execution.concurrency=16"],
            [
                "*_gpt-4o_*",
                *("--retry-on-error=CancelledError", "--siren-run-mode=dry-run"),
                "--set=execution.concurrency=16",
            ],
        ),
    ],
)
def test_jobs_resume_is_pytest(
    monkeypatch: pytest.MonkeyPatch, given: list[str], made: list[str]
) -> None:
    """P34 to P42: their command, whose default is to execute again what was cancelled."""
    calls: list[list[str]] = []
    monkeypatch.setattr(subprocess, "call", lambda command: calls.append(command) or 0)
    assert main(["jobs", "resume", *given]) == 0
    assert calls[0][1:] == ["-m", "pytest", "--resume", *made]


@pytest.mark.parametrize("command", [["resume-sweep"], ["jobs", "resume-sweep"]])
def test_a_sweep_has_pytests_default(monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    """P55, P58."""
    calls: list[list[str]] = []
    monkeypatch.setattr(subprocess, "call", lambda given: calls.append(given) or 0)
    assert main([*command, "-s", "2026-01-31_17-01-04"]) == 0
    assert calls[0][1:] == ["-m", "pytest", "--resume", "2026-01-31_17-01-04"]


@pytest.mark.parametrize("command", [["jobs", "resume"], ["jobs", "resume-sweep"]])
def test_slurm_is_handed_on(monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    """P43 to P46, P61 to P63."""
    calls: list[list[str]] = []
    monkeypatch.setattr(subprocess, "call", lambda given: calls.append(given) or 0)
    given = ["--slurm", "--slurm-partition", "p", "--slurm-time=9", "--no-wait"]
    assert main([*command, "-s", "x", *given]) == 0
    assert calls[0][-4:] == [
        *("--siren-slurm", "--siren-slurm-partition=p", "--siren-slurm-time=9", "--siren-no-wait")
    ]


def test_a_job_is_named_in_one_way_only() -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["jobs", "resume", "-p", "a", "-s", "b"])
    assert stopped.value.code == 2
