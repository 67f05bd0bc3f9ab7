"""How long ``--lf`` takes to decide what is left of a job of 100,000 recorded runs.

``python -m benchmarks.resume`` records the runs, then compares ``pytest --lf --collect-only`` with
the plain ``pytest evals --collect-only`` side by side, and prints seconds and their difference.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from benchmarks.folders import temporary

_EVAL = """
dataset:
  type: inline
  config:
    name: big
    tasks_file: tasks.jsonl
agent: {type: plain, config: {model: test}}
"""


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--left", type=int, default=100, help="runs that are not recorded")
    options = parser.parse_args()
    with temporary() as folder:
        root = Path(folder)
        _prepare(root, options.runs)
        _seconds(root, "evals", "--task-ids=t0")
        _record(root, options.runs - options.left)
        plain, resumed = [], []
        for _ in range(options.repeats):
            plain.append(_seconds(root, "evals", "--collect-only"))
            resumed.append(_seconds(root, "--lf", "--collect-only"))
    difference = median(resumed) - median(plain)
    sys.stdout.write(
        f"{options.runs:,} runs, {options.left:,} of them left: collection "
        f"{median(plain):.2f} s, with --lf {median(resumed):.2f} s, "
        f"difference {difference:+.2f} s (target: under 3 s)\n"
    )


def _prepare(root: Path, runs: int) -> None:
    (root / "evals").mkdir()
    (root / "pytest.ini").write_text("[pytest]\n")
    (root / "evals/eval_big.yaml").write_text(_EVAL)
    with open(root / "evals/tasks.jsonl", "w") as tasks:
        for number in range(runs):
            task = {
                "id": f"t{number}",
                "prompt": "ping",
                "evaluators": {"c": {"type": "contains", "value": "a"}},
            }
            tasks.write(json.dumps(task) + "\n")


def _record(root: Path, runs: int) -> None:
    """Give the job of ``root`` a record of each of its first ``runs`` runs, as a session would."""
    from pytest_siren.spec.jobspec import run_identity

    [job] = root.glob("jobs/*_benign_*")
    [recorded] = job.glob("*/*/result.json")
    result = json.loads(recorded.read_text())
    entry = json.loads((job / "index.jsonl").read_text())
    note = json.loads((root / ".pytest_cache/v/siren/session").read_text())
    [identity] = note["jobs"]
    note["invocation"]["task_ids"] = []
    (root / ".pytest_cache/v/siren/session").write_text(json.dumps(note))
    with open(job / "index.jsonl", "w") as index:
        for number in range(runs):
            place = f"t{number}/{number:08x}"
            same = {
                "task_id": f"t{number}",
                "run_id": f"{number:08x}",
                "identity": run_identity(identity, f"t{number}", 0),
                "nodeid": result["nodeid"].replace("t0[", f"t{number}["),
            }
            (job / place).mkdir(parents=True)
            (job / place / "result.json").write_text(json.dumps({**result, **same}, indent=2))
            index.write(json.dumps({**entry, **same, "path": place}) + "\n")


def _seconds(root: Path, *args: str) -> float:
    command = [sys.executable, "-m", "pytest", "-q", "-q", *args]
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    taken = time.perf_counter() - begun
    if done.returncode not in (0, 1):
        tail = done.stdout[-2000:] + done.stderr[-1000:]
        raise SystemExit(f"{' '.join(command)} exited with {done.returncode}:\n{tail}")
    return taken


if __name__ == "__main__":
    main()
