"""What the processes of a session share, on a mapped file of one host and on files of several."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_siren.sharing import files, listing, lockfile, peers
from pytest_siren.sharing.files import SharedFiles
from pytest_siren.sharing.state import Gauge, SharedState, host, lives
from tests.unit.shared_process import KINDS, MODEL, joined

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "shared"


@pytest.fixture
def state(kind: str, place: Path) -> Iterator[SharedState]:
    state = joined(kind, place)
    yield state
    state.close()


def processes(kind: str, place: Path, what: str, number: int = 2) -> list[str]:
    """Let so many processes do ``what`` at the same time; return what they write."""
    command = [sys.executable, "-m", "tests.unit.shared_process", kind, str(place), what]
    pipe = subprocess.PIPE
    started = [
        subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
        for _ in range(number)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    written = [process.communicate(timeout=60)[0] for process in started]
    assert [process.returncode for process in started] == [0] * number
    return written


def soon(reads: Callable[[], object], expected: object) -> None:
    """Others may see what a process does a little later."""
    for _ in range(100):
        if reads() == expected:
            return
        time.sleep(0.05)
    assert reads() == expected


def test_a_process_knows_its_own_gauges_at_once(state: SharedState) -> None:
    state[Gauge.RUNNING] = 3
    state[Gauge.REQUESTS] += 2
    assert (state[Gauge.RUNNING], state.total(Gauge.REQUESTS)) == (3, 2)
    assert state.earliest(Gauge.RESUMES_AT) == 0


def test_the_first_reason_to_stop_stands_for_all(
    state: SharedState, kind: str, place: Path
) -> None:
    assert state.stopped is None
    processes(kind, place, "stops", 1)
    soon(lambda: state.stopped, "the budget is spent")
    state.stop("too late")
    assert state.stopped == "the budget is spent"
    other = joined(kind, place)
    soon(lambda: other.stopped, "the budget is spent")
    other.close()


def test_what_is_asked_of_all_is_seen_by_all(state: SharedState, kind: str, place: Path) -> None:
    other = joined(kind, place)
    state.settle()
    state.stop_key(MODEL, "no key")
    state.stop_key(MODEL, "still no key")
    state.unpriced("no price")
    soon(lambda: other.settled, True)
    soon(lambda: other.key_stopped(MODEL), "no key")
    soon(lambda: other.why_unpriced, "no price")
    assert other.stopped_keys() == ["no key"]
    assert other.key_stopped("openai:gpt-5-mini") is None
    assert other.stopped is None
    other.close()


def test_spend_is_that_of_all_processes(state: SharedState, kind: str, place: Path) -> None:
    processes(kind, place, "spends")
    soon(lambda: round(state.total(Gauge.COST), 9), 2.0)
    assert state.total(Gauge.INPUT_TOKENS) == 2 * 101 * 10
    assert state.total(Gauge.UNPRICED) == 2
    assert state.why_unpriced == "no price for it"


def test_shared_cells_lose_no_change(state: SharedState, kind: str, place: Path) -> None:
    processes(kind, place, "counts")
    with state.key(MODEL).lock():
        assert state.key(MODEL)[3] == 200


def test_a_cap_a_minute_is_one_for_all(state: SharedState, kind: str, place: Path) -> None:
    written = processes(kind, place, "sends")
    taken = sorted(float(line) for text in written for line in text.splitlines())
    # 10 a second, of which one second's may come at once.
    assert len(taken) == 30
    assert taken[-1] - taken[0] >= 1.9


def test_what_a_dead_process_held_is_free(state: SharedState, kind: str, place: Path) -> None:
    assert processes(kind, place, "dies", 1) == ["5 2\n"]
    cells = state.key(MODEL)
    soon(cells.total_in_flight, 0)
    assert cells.total_waiting() == 0
    assert state.total(Gauge.RUNNING) == 0
    # What it did stays done.
    soon(lambda: state.total(Gauge.REQUESTS), 5)


def test_deaths_are_counted_for_all(state: SharedState, kind: str, place: Path) -> None:
    other = joined(kind, place)
    assert other.lost == 0
    state.count_lost(1)
    soon(lambda: other.lost, 1)
    other.close()


def test_a_lock_that_a_process_died_with_is_free(
    state: SharedState, kind: str, place: Path
) -> None:
    processes(kind, place, "locks", 1)
    with state.key(MODEL).lock():
        state.key(MODEL)[3] = 7
    assert state.key(MODEL)[3] == 7


# What only files can show: processes of another host.


def elsewhere(place: Path, **told: object) -> Path:
    """Leave the file of a process of another host, which has just been written."""
    path = place / "process-node2-77-0.json"
    values = {
        "gauges": {"RUNNING": 2.0, "REQUESTS": 9.0},
        "keys": {MODEL: [4, 1]},
        "stopped": None,
        "settled": False,
        "unpriced": None,
        "key_stops": {},
        "lost": [],
        "beat": 1,
    }
    path.write_text(json.dumps({**values, **told}))
    return path


def test_a_process_of_another_host_lives_as_long_as_it_writes(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = SharedFiles.open(place)
    path = elsewhere(place)
    soon(lambda: state.total(Gauge.RUNNING), 2)
    assert state.key(MODEL).total_in_flight() == 4
    monkeypatch.setattr(peers, "SILENT", 0.3)
    time.sleep(0.35)
    assert state.key(MODEL).total_in_flight() == 0
    assert (state.total(Gauge.RUNNING), state.total(Gauge.REQUESTS)) == (0, 9)
    os.utime(path)
    soon(lambda: state.total(Gauge.RUNNING), 2)
    state.close()


def test_a_process_writes_although_nothing_changes(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "BEAT", 0.1)
    state = SharedFiles.open(place)
    (path,) = place.glob("process-*")
    before = path.stat().st_mtime_ns
    time.sleep(0.3)
    assert path.stat().st_mtime_ns > before
    state.close()


def test_a_lock_of_another_host_is_taken_only_after_a_while(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = SharedFiles.open(place)
    (place / "lock").symlink_to("node2-77-0-5")
    monkeypatch.setattr(lockfile, "HELD", 0.5)
    began = time.monotonic()
    with state.lock():
        pass
    assert time.monotonic() - began >= 0.5
    assert not list(place.glob("lock*"))
    state.close()


def test_neither_locks_nor_mappings_of_the_operating_system_are_used() -> None:
    for module in (files, listing, lockfile, peers):
        source = Path(module.__file__).read_text()
        assert "fcntl" not in source
        assert "mmap" not in source


def test_a_process_that_nobody_has_waited_for_is_dead_all_the_same(place: Path) -> None:
    code = "import os; os.write(1, b'x')"
    ended = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert ended.stdout is not None
    assert ended.stdout.read() == b"x"
    soon(lambda: lives(ended.pid), False)
    assert ended.returncode is None
    # What it held is free: a lock, and its part of limits.
    state = SharedFiles.open(place)
    (place / "lock").symlink_to(f"{host()}-{ended.pid}-0-0")
    began = time.monotonic()
    with state.lock():
        pass
    assert time.monotonic() - began < lockfile.HELD / 2
    assert not state.living(f"{host()}-{ended.pid}")
    state.close()
    ended.stdout.close()
    ended.wait()


def test_a_lock_that_was_taken_away_is_not_given_back_for_another(place: Path) -> None:
    place.mkdir()
    slow, other = (lockfile.LockFile(place / "lock", f"node{n}-7-0") for n in (2, 3))
    slow.acquire()
    (place / "lock").unlink()
    other.acquire()
    slow.release()
    assert (place / "lock").is_symlink()
    other.release()
    assert not (place / "lock").is_symlink()


def test_who_lives_is_known_of_other_hosts_by_their_signs_of_life(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = SharedFiles.open(place)
    assert state.living("node3-5")  # Whose file may be seen later.
    path = elsewhere(place)
    soon(lambda: state.total(Gauge.RUNNING), 2)
    assert state.living("node2-77")
    state.count_lost_process("node2-77")
    assert not state.living("node2-77")
    monkeypatch.setattr(peers, "SILENT", 0.2)
    time.sleep(0.3)
    assert not state.living("node3-5")
    path.unlink()
    state.close()
