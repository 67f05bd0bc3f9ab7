"""What a session of 1,000,000 runs on 200 nodes costs: ``python -m benchmarks.cluster_scale``.

It generates the parts of such a session, each by the code that a session uses, and measures them:
collection, the plan, leases, what processes share, indexes of jobs, and reports.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import machine
from benchmarks.clock import resident
from benchmarks.cluster import LOCAL, RESULTS, write_scripted
from benchmarks.folders import temporary
from benchmarks.peers import siren
from benchmarks.processes import execute, python_path
from benchmarks.recorded import RUNS_PER_JOB, write_jobs
from benchmarks.report import Report, deliver, say
from benchmarks.scale_sessions import collect_runs
from pytest_siren.distribute.cluster.leases import Leases, blocks
from pytest_siren.distribute.cluster.plan import Group, Plan, SessionStore
from pytest_siren.distribute.cluster.reports import ReportFollower
from pytest_siren.jobs.writing.index import merge_index
from pytest_siren.sharing.files import SharedFiles
from pytest_siren.sharing.peers import BEAT
from pytest_siren.sharing.state import Gauge

RUNS, NODES, WINDOW = 1_000_000, 200, 64
QUICK_RUNS, QUICK_NODES = 20_000, 20
RUNS_PER_TASK = 100
ROWS = ("collection", "plan", "leases", "state", "records", "reports")
_BUSY = 10
HEAD = ("part", "figure", "")
_OPERATIONS = {
    *("open", "os.listdir", "os.mkdir", "os.remove", "os.rename", "os.scandir"),
    *("os.symlink", "os.utime"),
}


class Operations:
    """Counts the operations on files in a folder, where Python tells of them."""

    def __init__(self) -> None:
        self._folder = ""
        self.counts: Counter[str] = Counter()
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if self._folder and event in _OPERATIONS:
            places = [str(one) for one in arguments if isinstance(one, str | Path)]
            if any(place.startswith(self._folder) for place in places):
                self.counts[event] += 1

    @contextmanager
    def counted(self, folder: Path) -> Iterator[Counter[str]]:
        """Count those in ``folder``."""
        self._folder, self.counts = str(folder), Counter()
        try:
            yield self.counts
        finally:
            self._folder = ""


@dataclass
class Scale:
    """The parts of a session, for so many runs on so many nodes of one process each."""

    runs: int
    nodes: int
    operations: Operations
    rows: list[tuple[str, str, str]]

    def row(self, part: str, figure: str, note: str = "") -> None:
        """Add a row and print it."""
        self.rows.append((part, figure, note))
        say(f"  {part}: {figure} {note}".rstrip())

    def collection(self, folder: Path) -> None:
        """Collect all runs, as the controller and each process does."""
        found = collect_runs(self.runs, RUNS_PER_TASK)
        note = f"{found.memory_collected / 1e9:.1f} GB of memory; {RUNS_PER_TASK} runs a task"
        self.row("collection, by each process", f"{found.collection:.0f} s", note)

    def plan(self, folder: Path) -> None:
        """Write and read the plan."""
        jobs = self.runs // RUNS_PER_JOB or 1
        nodeids = [
            f"evals/eval_workspace.yaml::scale_{run % jobs}::user_task_{run // jobs % 40}:"
            f"injection_task_{run // jobs // 40 % 14}[{run // jobs // 560}]"
            for run in range(self.runs)
        ]
        names = {f"{job:064x}": f"jobs/scale_{job}" for job in range(jobs)}
        group = Group(nodeids, names, WINDOW, self.nodes)
        plan = Plan({"id": "scale"}, ["pytest"], str(folder), [], [group])
        store = SessionStore(folder / "session")
        store.make()
        began = time.perf_counter()
        store.write_plan(plan)
        wrote = time.perf_counter() - began
        size = (store.folder / "plan.json.gz").stat().st_size
        del plan, group, nodeids
        before, began = resident(), time.perf_counter()
        found = store.plan()
        read = time.perf_counter() - began
        assert len(found.groups[0].nodeids) == self.runs
        self.row("plan", f"{size / 1e6:.1f} MB", f"written in {wrote:.1f} s")
        memory = (resident() - before) / 1e6
        self.row("plan, read by each process", f"{read:.1f} s", f"{memory:.0f} MB of memory")

    def leases(self, folder: Path) -> None:
        """Let all processes lease all blocks."""
        cut = blocks(self.runs, self.nodes, WINDOW)
        with self.operations.counted(folder) as counts:
            everybody = [
                Leases(folder, cut, f"e{node}.0", lambda owner: True, node, self.nodes)
                for node in range(self.nodes)
            ]
            working = deque(everybody)
            while working:
                one = working.popleft()
                if (block := one.take()) is not None:
                    one.done(block)
                    working.append(one)
        entries = len(os.listdir(folder))
        self.row(
            "blocks of runs", f"{len(cut):,}", f"the first has {cut[0].stop} runs, the last one"
        )
        self.row("entries of the folder of leases", f"{entries:,}", "symbolic links: inodes only")
        created = counts["os.symlink"] / len(cut)
        listed = counts["os.listdir"] / self.nodes
        self.row("links tried for each block", f"{created:.2f}", "2 at least: leased, and done")
        self.row("listings of that folder by each process", f"{listed:.1f}")
        began = time.perf_counter()
        everybody[0]._look()
        self.row("one listing of it", f"{(time.perf_counter() - began) * 1000:.0f} ms")

    def state(self, folder: Path) -> None:
        """Let processes tell something as often as they may, for ten seconds."""
        states = [SharedFiles.open(folder) for _ in range(self.nodes)]
        for one in states:
            one[Gauge.RUNNING] = WINDOW
        for _ in range(5):
            for one in states:
                one.total(Gauge.RUNNING)
            time.sleep(0.3)
        # As many as this process can keep up with, with the first by name, who reads for all.
        busy = states[:_BUSY]
        with self.operations.counted(folder) as counts:
            began = time.perf_counter()
            while time.perf_counter() - began < 10:
                for one in busy:
                    one[Gauge.REQUESTS] += 1
                    one.total(Gauge.COST)
                time.sleep(0.05)
            seconds = time.perf_counter() - began
        size = sum(path.stat().st_size for path in folder.iterdir())
        portion = states[0].portion
        for one in states:
            one.close()
        # What the first reads, and the signs of life of those that only wait here.
        of_others = self.nodes + self.nodes / BEAT
        each = (sum(counts.values()) / seconds - of_others) / len(busy) + 1 / BEAT
        self.row("files of what processes share", f"{self.nodes + 3}", f"{size / 1e3:.0f} kB")
        self.row(
            "operations on them by each process",
            f"{each:.1f} a second",
            f"{(each + 1) * self.nodes:.0f} by all of them",
        )
        self.row("portion of a cap a minute", f"{portion:.1f} s", "so often each takes the lock")

    def records(self, folder: Path) -> None:
        """Merge the index of one job that all processes have written to."""
        write_jobs(folder, RUNS_PER_JOB)
        (job,) = folder.iterdir()
        lines = (job / "index.jsonl").read_bytes().splitlines(keepends=True)
        (job / "index.jsonl").unlink()
        (job / ".index").mkdir()
        for node in range(self.nodes):
            name = f"node{node}-7-0.jsonl"
            (job / ".index" / name).write_bytes(b"".join(lines[node :: self.nodes]))
        began = time.perf_counter()
        merge_index(job)
        seconds = time.perf_counter() - began
        assert len((job / "index.jsonl").read_bytes().splitlines()) == len(lines)
        jobs = self.runs // RUNS_PER_JOB or 1
        note = f"{RUNS_PER_JOB:,} runs; {jobs} jobs: {seconds * jobs:.0f} s at the end"
        self.row(f"index of a job, {self.nodes} files merged", f"{seconds:.2f} s", note)
        self.row("files of indexes while all execute", f"{jobs * self.nodes:,}", "at most")

    def reports(self, folder: Path) -> None:
        """Follow the reports of all processes, as many as a real session writes for a run."""
        kept, count = _real_session(folder)
        lines = kept.splitlines(keepends=True)
        each = self.runs // self.nodes
        target = folder / "reports"
        target.mkdir()
        copies = -(-each // count)
        for node in range(self.nodes):
            with (target / f"e{node}.0.jsonl").open("wb") as file:
                for _ in range(copies):
                    file.writelines(lines)
        runs = copies * count * self.nodes
        size = sum(path.stat().st_size for path in target.iterdir())
        follower = ReportFollower(target)
        before, began = resident(), time.process_time()
        reports = sum(1 for _ in follower.look())
        seconds = time.process_time() - began
        assert reports == len(lines) * copies * self.nodes
        self.row(
            "reports",
            f"{size / runs:,.0f} bytes a run",
            f"{size / runs * self.runs / 1e9:.1f} GB in all",
        )
        memory = (resident() - before) / 1e6
        self.row(
            "reports read by the controller",
            f"{seconds / runs * 1000:.3f} s of CPU per 1,000 runs",
            f"{memory:.0f} MB of memory",
        )
        inodes = [*(folder / "session" / "jobs").glob("*/*/**/*")]
        places = [path for path in inodes if not path.name.startswith(".")]
        self.row(
            "inodes of the records",
            f"{len(places) / count:.1f} a run",
            f"{len(places) / count * self.runs:,.0f} in all, and one for each task",
        )


def _real_session(folder: Path, runs: int = 200) -> tuple[bytes, int]:
    """Return what two elements of a real session reported, and of how many runs."""
    session, kept = folder / "session", folder / "kept"
    session.mkdir()
    kept.mkdir()
    write_scripted(session, runs)
    command = siren.session(session, "eval_empty.yaml", 1, 16, "-p", "benchmarks.kept_reports")
    command = replace(
        command,
        arguments=(*command.arguments, *LOCAL.options[:2], "--slurm-shards", "2"),
        variables={**python_path(), "BENCHMARK_REPORTS": str(kept)},
    )
    execute(command)
    data = b"".join(path.read_bytes() for path in kept.iterdir())
    return data, len({json.loads(line)["report"]["nodeid"] for line in data.splitlines()})


def main() -> None:
    """Generate, measure and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster_scale")
    parser.add_argument("--only", choices=ROWS, action="append")
    parser.add_argument("--quick", action="store_true", help="a small form of all")
    parser.add_argument("--results", type=Path, metavar="FILE")
    options = parser.parse_args()
    sizes = (QUICK_RUNS, QUICK_NODES) if options.quick else (RUNS, NODES)
    scale = Scale(*sizes, Operations(), [])
    for name in options.only or ROWS:
        say(f"{name}:")
        with temporary() as folder:
            getattr(scale, name)(Path(folder))
    report = Report("cluster_scale", [machine.facts()])
    title = f"{sizes[0]:,} runs on {sizes[1]} nodes, {WINDOW} in flight on each"
    report.tables.append((title, HEAD, scale.rows))
    whole = not options.only and not options.quick
    deliver(report, options.results or (RESULTS if whole else None))


if __name__ == "__main__":
    main()
