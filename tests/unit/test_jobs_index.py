"""A file for each writer of an index: readers take all, the process that ends last merges them."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pytest_siren.jobs.frame.table import read_runs
from pytest_siren.jobs.reading.read import iter_index
from pytest_siren.jobs.records.attempt import data_of, index_entry_of, result_of
from pytest_siren.jobs.records.naming import has_index, writer_files
from pytest_siren.jobs.writing.index import IndexWriter, index_locked, merge_index
from pytest_siren.jobs.writing.repair import up_to_date
from pytest_siren.jobs.writing.store import JobStore
from pytest_siren.jobs.writing.write import json_lines, mark, marks
from tests.unit.jobs_sample import CONFIG, attempt, run

HOST = socket.gethostname()


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore.open(tmp_path, "job", "session", {**CONFIG, "identity": "0123"})


def record(store: JobStore, *run_ids: str) -> None:
    """Record attempts as a session does, which merges the index at its end only."""
    for run_id in run_ids:
        info = run(f"task_{int(run_id, 16)}", path=store.path)
        store.settle([store.put(attempt(run_id=run_id, info=info))])


def line(number: int) -> bytes:
    """A line of the index, a second after that of the number before."""
    made = attempt(run_id=f"{number:08x}", info=run(f"task_{number}"))
    entry = index_entry_of(result_of(made), f"task_{number}/{number:08x}")
    at = entry.timestamp + timedelta(seconds=number)
    return json_lines([data_of(replace(entry, timestamp=at, identity=f"run {number}"))])


def add_writer(job: Path, process: str, *numbers: int, tail: bytes = b"") -> Path:
    """Leave the file of a writer, which is ``HOST-PID``, with lines of these numbers."""
    path = job / ".index" / f"{process}-0.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"".join(map(line, numbers)) + tail)
    return path


def ids(job: Path) -> list[str]:
    return [entry.run_id for entry in iter_index(job)]


def in_merged(job: Path) -> list[int]:
    """The numbers of the lines of ``index.jsonl``."""
    texts = (job / "index.jsonl").read_bytes().splitlines(keepends=True)
    known = {line(number): number for number in range(12)}
    return [known[text] for text in texts]


def test_a_process_adds_to_a_file_of_its_own_until_it_ends(store: JobStore) -> None:
    record(store, "00000001", "00000002")
    (path,) = writer_files(store.path)
    assert path.name == f"{HOST}-{os.getpid()}-0.jsonl"
    assert not (store.path / "index.jsonl").exists()
    assert has_index(store.path)
    assert ids(store.path) == ["00000001", "00000002"]
    written = path.read_bytes()
    merge_index(store.path)
    assert (store.path / "index.jsonl").read_bytes() == written
    assert not (store.path / ".index").exists()
    assert ids(store.path) == ["00000001", "00000002"]


def test_what_is_recorded_after_a_merge_is_merged_the_next_time(store: JobStore) -> None:
    record(store, "00000001")
    store.index.merge()
    record(store, "00000002")
    assert ids(store.path) == ["00000001", "00000002"]
    store.index.merge()
    assert (store.path / "index.jsonl").read_text().count("\n") == 2


def test_lines_of_several_writers_are_in_the_order_of_time(store: JobStore) -> None:
    (store.path / "index.jsonl").write_bytes(line(0))
    add_writer(store.path, f"{HOST}-1", 2, 3, 6)
    add_writer(store.path, "node2-77", 1, 4, 5)
    before = ids(store.path)
    assert before == [f"{number:08x}" for number in range(7)]
    runs = read_runs([store.path], paths=True).runs
    assert list(runs["run_id"]) == before
    merge_index(store.path)
    assert in_merged(store.path) == [0, 1, 2, 3, 4, 5, 6]
    assert ids(store.path) == before


def test_files_of_writers_that_go_on_are_left(store: JobStore) -> None:
    job = store.path
    writing = mark(job)
    mine = add_writer(job, f"{HOST}-{os.getpid()}", 1)
    elsewhere = add_writer(job, "node2-77", 2)
    (job / ".writing-node2-77").touch()
    add_writer(job, f"{HOST}-1", 3)
    merge_index(job)
    assert writer_files(job) == sorted([mine, elsewhere])
    assert in_merged(job) == [3]
    writing.unlink()
    (job / ".writing-node2-77").unlink()
    merge_index(job)
    assert in_merged(job) == [3, 1, 2]


def test_a_torn_line_of_a_dead_process_is_kept_aside(store: JobStore) -> None:
    job, dead = store.path, dead_process()
    add_writer(job, f"{HOST}-{dead}", 1, tail=line(2)[:40])
    (job / f".writing-{HOST}-{dead}").touch()
    assert ids(job) == ["00000001"]
    problems = read_runs([job]).problems
    assert not any("cannot be read" in problem for problem in problems)
    merge_index(job)
    assert in_merged(job) == [1]
    assert (job / "index.jsonl.dropped").read_bytes() == line(2)[:40] + b"\n"
    # It tells whoever resumes the job that a record may be missing in the index.
    assert [path.name for path in marks(job)] == [f".writing-{HOST}-{dead}"]


def dead_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_lines_that_were_merged_already_count_once(store: JobStore) -> None:
    """As after a process that was killed between merging and removing what it had merged."""
    job = store.path
    (job / "index.jsonl").write_bytes(line(1) + line(2))
    add_writer(job, "node2-77", 2, 3)
    assert ids(job) == ["00000001", "00000002", "00000003"]
    found = read_runs([job], paths=True)
    assert list(found.runs["run_id"]) == ["00000001", "00000002", "00000003"]
    assert not any("names again" in problem for problem in found.problems)
    merge_index(job)
    assert in_merged(job) == [1, 2, 3]


def test_lines_that_the_index_itself_has_twice_are_reported(store: JobStore) -> None:
    (store.path / "index.jsonl").write_bytes(line(1) + line(1))
    add_writer(store.path, "node2-77", 1, 2)
    found = read_runs([store.path])
    assert len(found.runs) == 2
    (said,) = (problem for problem in found.problems if "names again" in problem)
    assert said.endswith("that count once: 1")


def test_without_hard_links_the_only_file_becomes_the_index(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, "no links")

    monkeypatch.setattr(os, "link", refuse)
    add_writer(store.path, "node2-77", 1, 2)
    merge_index(store.path)
    assert in_merged(store.path) == [1, 2]
    assert not (store.path / ".index").exists()


def test_without_locks_who_merges_later_begins_anew(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file system refuses locks, and another process replaces the index meanwhile."""
    job, index = store.path, store.path / "index.jsonl"
    index.write_bytes(line(0))
    add_writer(job, "node2-77", 2)
    real_fsync = os.fsync

    def refuse(*args: Any) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    def replaced(descriptor: int) -> None:
        real_fsync(descriptor)
        monkeypatch.setattr(os, "fsync", real_fsync)
        other = job / "other"
        other.write_bytes(line(0) + line(1))
        os.replace(other, index)

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(os, "fsync", replaced)
    merge_index(job)
    assert in_merged(job) == [0, 1, 2]
    assert [path.name for path in job.iterdir() if path.name.endswith(".tmp")] == []


def test_two_that_merge_at_once_wait_for_each_other_where_there_are_locks(store: JobStore) -> None:
    add_writer(store.path, "node2-77", 1)
    code = (
        "import sys; from pathlib import Path\n"
        "from pytest_siren.jobs.writing.index import merge_index\n"
        "print('there', flush=True); merge_index(Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, str(store.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other, ExitStack() as lock:
        lock.enter_context(index_locked(store.path))
        assert other.stdout is not None
        assert other.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(0.5)
        assert not (store.path / "index.jsonl").exists()
        lock.close()
        assert other.wait(20) == 0
    assert in_merged(store.path) == [1]


def test_a_line_that_the_disk_had_no_room_for_harms_no_other(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, real_write = IndexWriter(store.path), os.write

    def short(descriptor: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", real_write)
        return real_write(descriptor, data[:10])

    monkeypatch.setattr(os, "write", short)
    with pytest.raises(OSError, match="only 10 of"):
        writer.append([{"a": 1, "b": 2}])
    writer.append([{"c": 3}])
    (path,) = writer_files(store.path)
    assert path.read_bytes() == b'{"a":1,"b"\n{"c":3}\n'


WRITES = """
import sys
from pathlib import Path
from tests.unit.test_jobs_index import JobStore, mark, record
store = JobStore(Path(sys.argv[1]))
mark(store.path)
for number in range(100_000):
    record(store, f"{number:08x}")
    print(number, flush=True)
"""


def test_a_process_that_is_killed_loses_nothing_that_it_recorded(store: JobStore) -> None:
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", WRITES, str(store.path)], stdout=subprocess.PIPE, cwd=root
    ) as process:
        assert process.stdout is not None
        for _ in range(20):
            assert process.stdout.readline()
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        said = process.stdout.read().split()
    recorded = int(said[-1]) + 1 if said else 20
    assert len(ids(store.path)) in (recorded, recorded + 1)
    found = up_to_date(store.path)
    assert len({entry.path for entry in found.entries}) == len(found.entries) >= recorded
    results = list(store.path.glob("*/*/result.json"))
    assert len(found.entries) == len(results)
    assert not marks(store.path)
    assert not writer_files(store.path)
    assert len((store.path / "index.jsonl").read_bytes().splitlines()) == len(results)
