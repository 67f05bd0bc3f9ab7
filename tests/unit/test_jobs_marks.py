"""Which process has a job: one session at a time resumes it."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from pytest_siren.jobs.writing.write import (
    Writer,
    claim,
    forget_dead_writers,
    mark,
    marks,
    release,
    writers,
)

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def job(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text("")
    return tmp_path


def _claim_at(job: Path, answers: Connection) -> None:
    answers.send(claim(job))
    answers.poll(60)


def _claimed_elsewhere(job: Path, processes: int) -> list[Writer | None]:
    """Let so many processes claim ``job``; return what each was answered, and end them."""
    pairs = [SPAWN.Pipe() for _ in range(processes)]
    started = [SPAWN.Process(target=_claim_at, args=(job, theirs)) for _, theirs in pairs]
    for process in started:
        process.start()
    answers = [ours.recv() for ours, _ in pairs]
    if processes == 1:
        assert claim(job) == Writer(started[0].pid or 0, started[0].pid or 0)
    for process in started:
        process.kill()
        process.join()
    return answers


def test_of_sessions_that_claim_a_job_at_once_one_is_given_it(job: Path) -> None:
    assert _claimed_elsewhere(job, 3).count(None) == 1


def test_a_job_whose_session_was_killed_can_be_claimed(job: Path) -> None:
    assert _claimed_elsewhere(job, 1) == [None]
    assert claim(job) is None
    assert [one.pid for one in writers(job)] == [os.getpid()]
    forget_dead_writers(job)
    assert len(list(job.glob(".session-*"))) == 1
    release(job)
    release(job)
    assert not list(job.glob(".session-*"))
    # No sign that records may be missing in the index.
    assert marks(job) == []


def _mark(job: Path, pid: int, **noted: object) -> Path:
    path = job / f".writing-{socket.gethostname()}-{pid}"
    path.write_text(json.dumps(noted) if noted else "")
    return path


def test_a_process_that_was_given_the_id_of_a_dead_one_is_not_taken_for_it(job: Path) -> None:
    parent = os.getppid()
    left = _mark(job, parent, started="1", session=parent)
    assert claim(job) is None
    forget_dead_writers(job)
    assert not left.exists()


def test_marks_of_the_version_before_count_as_well(job: Path) -> None:
    parent = os.getppid()
    _mark(job, parent)
    assert claim(job) == Writer(parent, parent)


@pytest.mark.parametrize("text", ["[]", "{", '{"session": "x", "started": 5}', '{"session": -1}'])
def test_a_mark_with_odd_content_is_no_error(job: Path, text: str) -> None:
    _mark(job, os.getppid()).write_text(text)
    assert [one.session for one in writers(job)] in ([], [os.getppid()])


def test_a_worker_counts_for_the_session_that_it_works_for(job: Path) -> None:
    mark(job, session=2**22 + 1)
    [writer] = writers(job)
    assert writer.pid == os.getpid()
    assert writer.orphaned
    # Its own session, and a session of this process, have the job already.
    assert claim(job) is None
