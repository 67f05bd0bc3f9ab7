"""Command-line options and ini keys. Loaded by every pytest session, so standard library only."""

from __future__ import annotations

from collections.abc import Iterable

import pytest


def add_options(parser: pytest.Parser) -> None:
    """Add the options and ini keys of the plugin."""
    group = parser.getgroup("siren", "evaluations of LLM agents (pytest-siren)")
    add = group.addoption
    add(
        "--attack",
        action="append",
        default=[],
        metavar="NAME[,NAME]",
        help="attack every couple with this preset or attack type",
    )
    add(
        "--benign",
        action="store_true",
        default=False,
        help="run the benign tasks without an attack; with --attack: run them too",
    )
    add(
        "--model",
        action="append",
        default=[],
        metavar="M[,M]",
        help="model of the agent: openai:gpt-5, local:smollm2-135m, replay:PATH, control:hijacked",
    )
    add("--agent", action="append", default=[], metavar="A[,A]", help="type of the agent")
    add(
        "--runs",
        type=int,
        default=None,
        metavar="N",
        help="how often each task or couple is run (default: 1)",
    )
    add(
        "--task-ids",
        action="append",
        default=[],
        metavar="ID[,ID]",
        help="run these benign tasks, malicious tasks or couples (benign:malicious) only",
    )
    add(
        "--set",
        action="append",
        default=[],
        dest="siren_set",
        metavar="KEY=VALUE",
        help="change a key of the eval files, such as dataset.config.version=v1; "
        "a,b sweeps, +key adds, ~key deletes",
    )
    add(
        "--concurrency",
        type=int,
        default=None,
        metavar="N",
        help="how many runs one process keeps in flight (recorded with the job; "
        "runs are executed one after the other so far)",
    )
    add(
        "--pass-k",
        type=int,
        action="append",
        default=[],
        metavar="K",
        help="show pass@K in the summary; may be given several times (default: 1)",
    )
    add("--jobs-dir", default=None, metavar="DIR", help="where jobs are recorded (default: jobs)")
    add("--job-name", default=None, metavar="NAME", help="name of the job (default: made up)")
    parser.addini("siren_jobs_dir", "where jobs are recorded, relative to the root folder")


def check_options(config: pytest.Config) -> None:
    """Raise ``pytest.UsageError`` for values that cannot be meant."""
    for option, value in (
        ("--runs", config.getoption("runs")),
        ("--concurrency", config.getoption("concurrency")),
        *(("--pass-k", k) for k in config.getoption("pass_k")),
    ):
        if value is not None and value < 1:
            raise pytest.UsageError(f"{option} must be at least 1, not {value}")
    for option, name in (
        ("--attack", "attack"),
        ("--model", "model"),
        ("--agent", "agent"),
        ("--task-ids", "task_ids"),
    ):
        if any(not part.strip() for given in config.getoption(name) for part in given.split(",")):
            raise pytest.UsageError(f"{option} has an empty name")
    for given in config.getoption("siren_set"):
        if not given.startswith("~") and "=" not in given:
            raise pytest.UsageError(f"--set {given}: expected KEY=VALUE or ~KEY")


def names(given: Iterable[str]) -> tuple[str, ...]:
    """Split comma-separated names; each is kept once, in order."""
    parts = (part.strip() for value in given for part in value.split(","))
    return tuple(dict.fromkeys(part for part in parts if part))
