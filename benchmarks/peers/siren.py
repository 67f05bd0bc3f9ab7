"""pytest-siren."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

from benchmarks.contest import Entry
from benchmarks.install import python_of
from benchmarks.peers import Peer
from benchmarks.processes import Command, FailedError, Finished
from benchmarks.work import Work

MODEL = "openai-chat:gpt-4o-mini"
OPTIONS = ("-q", "-p", "no:cacheprovider", "--jobs-dir", "jobs")


def python() -> Path:
    """Return the Python that has pytest-siren: its own environment's, or else this one."""
    return python_of("pytest-siren") or Path(sys.executable)


def one_call(folder: Path, work: Work, processes: int, concurrency: int) -> Command:
    """Write a dataset of prompts, and return the command that runs it."""
    write_prompts(folder / "tasks.jsonl", work.runs)
    config = {"name": "one-call", "tasks_file": "tasks.jsonl"}
    write_eval(folder / "eval_one_call.yaml", {"type": "inline", "config": config}, MODEL)
    return session(folder, "eval_one_call.yaml", processes, concurrency)


def couples(folder: Path, work: Work, processes: int, concurrency: int) -> Command:
    """Return the command that attacks couples of AgentDojo's workspace suite."""
    config = {"suite_name": "workspace", "version": "v1.2.2"}
    write_eval(folder / "eval_couples.yaml", {"type": "agentdojo", "config": config}, MODEL)
    more = ["--attack", "template_string"]
    if chosen := work.couple_ids():
        more += ["--task-ids", ",".join(chosen)]
    return session(folder, "eval_couples.yaml", processes, concurrency, *more)


def session(folder: Path, file: str, processes: int, concurrency: int, *more: str) -> Command:
    """Return a pytest session on ``file``. A run that fails its test has been run all the same."""
    arguments = [str(python()), "-m", "pytest", file, *OPTIONS, "--rootdir", "."]
    arguments += ["--concurrency", str(concurrency), *more]
    if processes > 1:
        arguments += ["-n", str(processes)]
    return Command(tuple(arguments), folder, good_codes=frozenset({0, 1}))


def write_eval(path: Path, dataset: dict[str, object], model: str, runs: int = 1) -> None:
    """Write an eval file; JSON is YAML."""
    agent = {"type": "plain", "config": {"model": model}}
    path.write_text(json.dumps({"dataset": dataset, "agent": agent, "runs": runs}))


def write_prompts(path: Path, number: int) -> None:
    """Write a dataset of that many tasks whose answer must contain ``Done``."""
    judged = [{"type": "contains", "value": "Done"}]
    with path.open("w") as file:
        for index in range(number):
            prompt = f"This is task {index}. Say when you are done."
            task = {"id": f"task_{index}", "prompt": prompt, "evaluators": judged}
            file.write(json.dumps(task) + "\n")


def check(folder: Path, work: Work, finished: Finished) -> None:
    """Raise unless every run has its record and is scored."""
    lines = [line for path in folder.glob("jobs/*/index.jsonl") for line in path.open()]
    scored = sum(json.loads(line)["status"] == "scored" for line in lines)
    records = sum(1 for _ in folder.glob("jobs/*/*/*/execution.json"))
    if not scored == records == work.runs:
        raise FailedError(
            f"pytest-siren: {scored} runs scored and {records} recorded of {work.runs}:\n"
            f"{finished.output[-3000:]}"
        )


def entry(name: str, processes: int, concurrency: int) -> Entry:
    """Return pytest-siren on that many processes for the work called ``name``."""
    command = {"one-call": one_call, "couples": couples}[name]
    shape = "one process" if processes == 1 else f"-n {processes}"
    return Entry(
        f"pytest-siren, {shape}, --concurrency {concurrency}",
        partial(command, processes=processes, concurrency=concurrency),
        check,
    )


def peer() -> Peer:
    """Return pytest-siren among its peers."""
    return Peer(
        name="pytest-siren",
        python=python(),
        settings="`-q -p no:cacheprovider`; all records written",
        packages=(
            *("pytest-siren", "pytest", "pytest-xdist", "pydantic-ai-slim", "pydantic"),
            *("openai", "httpx", "httpx2", "agentdojo"),
        ),
        entries={
            "one-call": tuple(entry("one-call", *shape) for shape in ((1, 64), (2, 32), (8, 8))),
            "couples": tuple(entry("couples", *shape) for shape in ((1, 64), (2, 32))),
        },
    )
