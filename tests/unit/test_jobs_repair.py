"""The index tells what the files tell, whatever has happened to it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_siren.jobs.reading.read import Unreadable, iter_index
from pytest_siren.jobs.writing.repair import repair, up_to_date
from pytest_siren.jobs.writing.store import History, JobStore, Past, RunIds
from pytest_siren.jobs.writing.write import forget_dead_writers, mark, marks
from pytest_siren.payloads import RunAttempt
from pytest_siren.records import IndexEntry
from pytest_siren.session.items.report import Spent
from tests.unit.jobs_sample import CONFIG, CREATED, JOB_NAME, attempt, run


def job_at(folder: Path) -> Path:
    return JobStore.open(folder, JOB_NAME, "session", CONFIG, created_at=CREATED).path


def attempt_at(job: Path, number: int) -> RunAttempt:
    """Return an attempt at a run of its own; three share a task."""
    info = replace(
        run(f"user_task_{number // 3 % 40}:injection_task_1", number, path=job),
        identity=f"{number:016x}",
    )
    return attempt(run_id=f"{number:08x}", info=info)


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    """A job with five attempts."""
    store = JobStore(job_at(tmp_path))
    for number in range(5):
        store.record(attempt_at(store.path, number))
    return store


def lines(job: Path) -> list[IndexEntry]:
    return list(iter_index(job))


def test_an_index_in_order_is_left_alone(store: JobStore) -> None:
    index = store.path / "index.jsonl"
    before = index.stat().st_mtime_ns
    assert not repair(store.path).changed
    assert not up_to_date(store.path).changed
    assert index.stat().st_mtime_ns == before


def test_a_lost_index_is_built_again(store: JobStore) -> None:
    before = lines(store.path)
    (store.path / "index.jsonl").unlink()
    assert repair(store.path).added == 5
    assert lines(store.path) == before


def test_lines_that_are_torn_doubled_wrong_or_of_the_gone_are_mended(store: JobStore) -> None:
    before = lines(store.path)
    shutil.rmtree(store.path / before[0].path)
    index = store.path / "index.jsonl"
    rows = index.read_text().splitlines()
    rows[1] = rows[1][:50]
    rows[2] = rows[2].replace('"status":"scored"', '"status":"error"')
    index.write_text("\n".join([*rows, rows[3]]) + "\n")
    found = repair(store.path)
    assert (found.added, found.dropped, found.corrected, len(found.torn)) == (1, 2, 1, 1)
    assert lines(store.path) == before[1:]


def test_what_is_no_record_is_named_and_left_where_it_is(store: JobStore) -> None:
    (store.path / "notes.txt").write_text("mine")
    task = next(path for path in store.path.iterdir() if path.is_dir())
    (task / "thoughts").mkdir()
    (task / "aaaaaaaa").mkdir()
    first = store.path / lines(store.path)[0].path / "result.json"
    first.write_bytes(b"")
    moved = store.path / lines(store.path)[1].path
    moved.rename(moved.with_name("ffffffff"))
    found = repair(store.path)
    reasons = sorted(problem.reason for problem in found.problems)
    assert reasons[0] == "a file that is no part of a job"
    assert reasons[1].startswith("it says that it is of the attempt ")
    assert reasons[2] == "no attempt at a run"
    assert reasons[3].startswith("not valid JSON")
    assert found.unfinished == 1
    assert len(lines(store.path)) == 3
    assert (store.path / "notes.txt").read_text() == "mine"


def test_a_mark_left_over_makes_the_files_be_looked_at(store: JobStore) -> None:
    before = lines(store.path)
    index = store.path / "index.jsonl"
    index.write_text("".join(index.read_text().splitlines(keepends=True)[:3]))
    assert len(up_to_date(store.path).entries) == 3
    killed = multiprocessing.get_context("spawn").Process(target=mark, args=(store.path,))
    killed.start()
    killed.join()
    assert up_to_date(store.path).added == 2
    assert lines(store.path) == before
    assert not marks(store.path)


def test_marks_of_the_living_and_of_other_machines_stay(store: JobStore) -> None:
    mine = mark(store.path)
    other = store.path / f".writing-not-{socket.gethostname()}-1"
    other.touch()
    forget_dead_writers(store.path)
    assert sorted(marks(store.path)) == sorted([mine, other])
    assert mine.name.endswith(f"-{os.getpid()}")


def _write(job: Path, process: int, records: int) -> None:
    store = JobStore(job, sync=frozenset())
    writing = mark(job)
    ids = RunIds()
    for number in range(records):
        attempt = attempt_at(job, process * records + number)
        store.settle([store.put(replace(attempt, run_id=ids()))])
    writing.unlink()
    store.index.merge()


@pytest.mark.parametrize(
    ("processes", "records"), [(2, 500), pytest.param(8, 2_500, marks=pytest.mark.nightly)]
)
def test_processes_write_into_one_job_at_the_same_time(
    tmp_path: Path, processes: int, records: int
) -> None:
    job = job_at(tmp_path)
    context = multiprocessing.get_context("spawn")
    writers = [
        context.Process(target=_write, args=(job, number, records)) for number in range(processes)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    torn: list[Unreadable] = []
    entries = list(iter_index(job, torn))
    assert not torn
    # By folder: of 20,000 random ids, two are the same once in 20 times, in folders of other tasks.
    assert len(entries) == len({entry.path for entry in entries}) == processes * records
    assert not up_to_date(job).changed


def _entry(base: IndexEntry, status: str, error: str | None = None, attempt: int = 1) -> IndexEntry:
    return replace(base, status=status, exception_type=error, attempt=attempt)


def test_the_first_score_counts_else_the_last_attempt(store: JobStore) -> None:
    base = lines(store.path)[0]
    error, scored = _entry(base, "error", "TimeoutError"), _entry(base, "scored", attempt=2)
    again = _entry(base, "scored", attempt=3)
    assert Past((error, scored, again)).deciding is scored
    assert Past((error,)).deciding is error
    assert Past().deciding is None
    assert Past((error, scored)).settled(None) is scored


def test_which_attempts_settle_a_run(store: JobStore) -> None:
    base = lines(store.path)[0]
    error, cancelled = _entry(base, "error", "TimeoutError"), _entry(base, "cancelled", "Cancelled")
    assert Past((error,)).settled(None) is None
    assert Past((error,)).settled(frozenset({"timeouterror"})) is None
    assert Past((error,)).settled(frozenset()) is error
    assert Past((cancelled,)).settled(frozenset()) is None


def test_spend_is_that_of_all_attempts(store: JobStore) -> None:
    base = lines(store.path)[0]
    entries = [replace(base, cost=0.5), replace(base, cost=None), replace(base, cost=0.25)]
    spent = Spent.of(entries)
    assert (spent.attempts, spent.cost, spent.unpriced) == (3, 0.75, 1)
    assert spent.input_tokens == 3 * base.input_tokens
    assert len(History.of(entries).pasts()) == 1
