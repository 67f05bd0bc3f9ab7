"""Inspect AI, with the AgentDojo of inspect-evals."""

from __future__ import annotations

import json
import subprocess
from functools import partial
from pathlib import Path

from benchmarks.contest import Entry
from benchmarks.install import python_of
from benchmarks.peers import Peer
from benchmarks.processes import Command, FailedError, Finished
from benchmarks.work import INJECTION_TASKS, Work

NAME = "inspect-ai"
_HEADER = """
import glob, json, sys
from inspect_ai.log import read_eval_log
log = read_eval_log(glob.glob("logs/*.eval")[0], header_only=True)
scores = [score.scorer for score in log.results.scores]
print(json.dumps([log.status, log.results.completed_samples, scores]))
"""


def couples(folder: Path, work: Work, more: tuple[str, ...] = ()) -> Command:
    """Return the command that attacks couples of AgentDojo's workspace suite."""
    arguments = ["inspect_evals/agentdojo", "-T", "workspace=workspace"]
    if work.couple_ids():
        users = ",".join(map(str, range(work.runs // INJECTION_TASKS)))
        arguments += ["-T", f"user_task_ids=[{users}]"]
    return _command(folder, work, [*arguments, *more])


def one_call(folder: Path, work: Work) -> Command:
    """Return the command that runs ``one_call_task.py``, a dataset of prompts."""
    (folder / "task.py").write_text((Path(__file__).parent / "one_call_task.py").read_text())
    return _command(folder, work, ["task.py", "-T", f"runs={work.runs}"])


def _command(folder: Path, work: Work, task: list[str]) -> Command:
    python = python_of(NAME)
    assert python is not None
    number = str(work.in_flight)
    arguments = [str(python.parent / "inspect"), "eval", *task, "--model", "openai/gpt-4o-mini"]
    arguments += ["--max-connections", number, "--max-samples", number, "--log-dir", "logs"]
    arguments += ["--display", "none", "--no-log-realtime", "--no-score-display"]
    arguments += ["--ctl-server", "false"]
    return Command(tuple(arguments), folder)


def check(folder: Path, work: Work, finished: Finished) -> None:
    """Raise unless its log says that all samples were completed and scored."""
    python = python_of(NAME)
    assert python is not None
    said = subprocess.check_output([str(python), "-c", _HEADER], cwd=folder, text=True)
    status, completed, scores = json.loads(said)
    if status != "success" or completed != work.runs or not scores:
        raise FailedError(f"{NAME}: {status}, {completed} of {work.runs} samples, scores {scores}")


def peer() -> Peer:
    """Return Inspect AI among its peers."""
    bare = partial(couples, more=("--no-log-samples",))
    return Peer(
        name=NAME,
        python=python_of(NAME),
        settings=(
            "`--max-connections 64 --max-samples 64 --display none --no-log-realtime "
            "--no-score-display --ctl-server false`; its log keeps the samples, as the others' "
            "records do, unless said"
        ),
        packages=(NAME, "inspect-evals", "pydantic", "openai", "httpx"),
        entries={
            "one-call": (Entry(NAME, one_call, check),),
            "couples": (
                Entry(NAME, couples, check),
                Entry(f"{NAME}, --no-log-samples", bare, check),
            ),
        },
    )
