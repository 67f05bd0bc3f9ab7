"""Sessions of many items, measured from within: pytest-siren's runs and items that do nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.folders import temporary
from benchmarks.peers import siren
from benchmarks.processes import Command, FailedError, Finished, execute, python_path

_CONCURRENCY = 64
_REPLY = {"output": "Done.", "calls": []}


@dataclass(frozen=True)
class Session:
    """What a session of ``items`` took: seconds, and bytes in memory at two points."""

    items: int
    collection: float
    loop: float
    loop_cpu: float
    summary: float
    memory_collected: float
    memory_finished: float


def collect_runs(items: int, runs_per_task: int = 1) -> Session:
    """Collect runs of an inline dataset."""
    return _session(items, "eval_empty.yaml", runs_per_task, "--collect-only", "-qq")


def execute_runs(items: int) -> Session:
    """Execute runs that are empty: the model is a script that answers at once."""
    return _session(items, "eval_empty.yaml", 1, "-q", "--concurrency", str(_CONCURRENCY))


def execute_empty(items: int) -> Session:
    """Execute items that do nothing, without pytest-siren."""
    more = ("-q", "-p", "no:siren", "-p", "benchmarks.empty_items")
    return _session(items, "items.empty", 1, *more)


def _session(items: int, file: str, runs_per_task: int, *options: str) -> Session:
    with temporary() as name:
        folder = Path(name)
        _write(folder, items, runs_per_task)
        arguments = [str(siren.python()), "-m", "pytest", file, "--rootdir", "."]
        arguments += ["-p", "no:cacheprovider", "-p", "benchmarks.clock", *options]
        if "no:siren" not in options:
            arguments += ["--jobs-dir", "jobs"]
        variables = {**python_path(), "BENCHMARK_CLOCK": str(folder / "clock.json")}
        finished = execute(Command(tuple(arguments), folder, variables))
        _check(folder, items, finished, options)
        marks = json.loads((folder / "clock.json").read_text())
    return _read(items, marks)


def _write(folder: Path, items: int, runs_per_task: int) -> None:
    (folder / "items.empty").write_text(str(items))
    judged = [{"type": "contains", "value": "Done"}]
    with (folder / "tasks.jsonl").open("w") as file:
        for index in range(items // runs_per_task):
            task = {"id": f"task_{index}", "prompt": "Say when you are done."}
            task |= {"evaluators": judged, "ground_truth": _REPLY}
            file.write(json.dumps(task) + "\n")
    config = {"name": "empty", "tasks_file": "tasks.jsonl"}
    dataset = {"type": "inline", "config": config}
    siren.write_eval(
        folder / "eval_empty.yaml", dataset, "control:ground-truth", runs=runs_per_task
    )


def _check(folder: Path, items: int, finished: Finished, options: tuple[str, ...]) -> None:
    if "--collect-only" in options:
        done = f": {items}" in finished.output
    else:
        done = f"{items} passed" in finished.output
    if done and "--concurrency" in options:
        done = sum(1 for _ in folder.glob("jobs/*/*/*/result.json")) == items
    if not done:
        raise FailedError(f"not all of {items} items:\n{finished.output[-2000:]}")


def _read(items: int, marks: dict[str, dict[str, float]]) -> Session:
    def between(phase: str, unit: str) -> float:
        return marks[f"{phase} ends"][unit] - marks[f"{phase} starts"][unit]

    return Session(
        items,
        collection=between("collection", "wall"),
        loop=between("loop", "wall"),
        loop_cpu=between("loop", "cpu"),
        summary=between("summary", "wall"),
        memory_collected=marks["collection ends"]["memory"],
        memory_finished=marks["summary ends"]["memory"],
    )
