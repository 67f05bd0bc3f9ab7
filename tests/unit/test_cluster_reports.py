"""Reports of many processes in files: written by those that are killed, followed by one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pytest_siren.distribute.cluster import reports
from pytest_siren.distribute.cluster.reports import Reported, ReportFollower, ReportWriter
from tests.unit.limits_server import FakeClock

ROOT = Path(__file__).parents[2]


def followed(follower: ReportFollower) -> list[tuple[str, object]]:
    return [(one.process, one.report) for one in follower.look()]


def test_what_is_written_is_followed_in_order(tmp_path: Path) -> None:
    first, second = ReportWriter(tmp_path / "a.jsonl"), ReportWriter(tmp_path / "b.jsonl")
    follower = ReportFollower(tmp_path)
    assert followed(follower) == []
    first.write({"n": 1, "text": "ein\nzwei\udcff"})
    second.write({"n": 2})
    first.write({"n": 3})
    found = followed(follower)
    assert [report for name, report in found if name == "a"] == [
        {"n": 1, "text": "ein\nzwei\udcff"},
        {"n": 3},
    ]
    assert [report for name, report in found if name == "b"] == [{"n": 2}]
    assert followed(follower) == []
    first.write({"n": 4})
    assert followed(follower) == [("a", {"n": 4})]
    # Another one, who comes back to the session, sees all of it.
    assert len(followed(ReportFollower(tmp_path))) == 4
    first.close()
    second.close()


def test_a_process_that_goes_on_with_its_file_appends(tmp_path: Path) -> None:
    for number in range(2):
        writer = ReportWriter(tmp_path / "a.jsonl")
        writer.write({"n": number})
        writer.close()
    assert followed(ReportFollower(tmp_path)) == [("a", {"n": 0}), ("a", {"n": 1})]


def test_half_a_line_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    follower = ReportFollower(tmp_path)
    line = json.dumps({"text": "x" * 100_000}).encode() + b"\n"
    with path.open("wb", buffering=0) as file:
        for at in range(0, len(line), 30_000):
            assert followed(follower) == []
            file.write(line[at : at + 30_000])
    assert followed(follower) == [("a", {"text": "x" * 100_000})]


def test_a_line_is_awaited_whose_bytes_the_file_server_shows_late(tmp_path: Path) -> None:
    """A network file system may show the new length first, and zeros in place of the line."""
    path, clock = tmp_path / "a.jsonl", FakeClock()
    follower = ReportFollower(tmp_path, clock)
    path.write_bytes(b'{"n": 1}\n' + bytes(9) + b'{"n": 3}\n')
    assert followed(follower) == [("a", {"n": 1})]
    clock.now += reports.PATIENCE - 1
    assert followed(follower) == []
    path.write_bytes(b'{"n": 1}\n{"n": 2}\n{"n": 3}\n')
    assert followed(follower) == [("a", {"n": 2}), ("a", {"n": 3})]


def test_a_line_that_stays_unreadable_is_named_and_others_are_read(tmp_path: Path) -> None:
    path, clock = tmp_path / "a.jsonl", FakeClock()
    follower = ReportFollower(tmp_path, clock)
    path.write_bytes(b'{"n": 1}\n{"n": \n[2]\n{"n": 3}\n')
    assert followed(follower) == [("a", {"n": 1})]
    clock.now += reports.PATIENCE
    (broken,) = follower.look()
    assert (broken.process, broken.report) == ("a", None)
    assert broken.problem.startswith(f"{path}:2: no JSON (Expecting value")
    assert followed(follower) == []
    clock.now += reports.PATIENCE
    assert list(follower.look()) == [
        Reported("a", None, f"{path}:3: no object"),
        Reported("a", {"n": 3}),
    ]


def test_what_the_disk_had_no_room_for_does_not_spoil_the_next_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = ReportWriter(tmp_path / "a.jsonl")
    write, room = os.write, [4]

    def little(descriptor: int, data: memoryview) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        room[0] -= 4
        return write(descriptor, data[:4])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", little)
        with pytest.raises(OSError, match="No space left"):
            writer.write({"n": 1})
    writer.write({"n": 2})
    writer.close()
    clock = FakeClock()
    follower = ReportFollower(tmp_path, clock)
    assert followed(follower) == []
    clock.now += reports.PATIENCE
    assert followed(follower) == [("a", None), ("a", {"n": 2})]


def test_reports_that_are_kept_share_their_keys(tmp_path: Path) -> None:
    writer = ReportWriter(tmp_path / "a.jsonl")
    for number in range(2):
        writer.write({"a rather long key": number, "share": float("nan")})
        writer.write({"a rather long key": number})
    writer.close()
    kept = [one.report for one in ReportFollower(tmp_path).look() if one.report is not None]
    assert len(kept) == 4
    (first,), (second,) = kept[1], kept[3]
    assert first is second


def test_what_is_no_json_is_not_written(tmp_path: Path) -> None:
    writer = ReportWriter(tmp_path / "a.jsonl")
    with pytest.raises(TypeError, match="not JSON serializable"):
        writer.write({"n": object()})
    writer.write({"n": 1})
    writer.close()
    assert followed(ReportFollower(tmp_path)) == [("a", {"n": 1})]


def test_the_file_server_gets_what_was_written_within_a_second_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = threading.Semaphore(0)
    calls: list[float] = []

    def counted(descriptor: int) -> None:
        calls.append(time.monotonic())
        synced.release()

    monkeypatch.setattr(os, "fdatasync", counted)
    writer = ReportWriter(tmp_path / "a.jsonl")
    for number in range(1_000):
        writer.write({"n": number})
    assert synced.acquire(timeout=5)
    writer.write({"n": 0})
    assert synced.acquire(timeout=5)
    # Not for each line.
    assert len(calls) <= 4
    assert calls[1] - calls[0] >= 0.9 * reports.VISIBLE
    writer.write({"n": 0})
    writer.close()
    assert len(calls) <= 6


def test_a_file_server_that_fails_is_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr(os, "fdatasync", full)
    writer = ReportWriter(tmp_path / "a.jsonl")
    writer.write({"n": 1})
    with pytest.raises(OSError, match="quota"):
        writer.close()


def test_looking_costs_little_and_less_often_with_many_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(200):
        (tmp_path / f"e{number}.0.jsonl").write_bytes(b'{"n": 1}\n' * 50)
    clock = FakeClock()
    follower = ReportFollower(tmp_path, clock)
    assert len(list(follower.poll())) == 200 * 50
    calls = Counter[str]()
    read_line = reports.msgspec.json.decode

    def reading(line: bytes) -> Any:
        calls["lines"] += 1
        return read_line(line)

    def counting(name: str) -> None:
        original = getattr(os, name)

        def call(*arguments: Any) -> Any:
            calls[name] += 1
            return original(*arguments)

        monkeypatch.setattr(os, name, call)

    monkeypatch.setattr(reports.msgspec.json, "decode", reading)
    for name in ("listdir", "fstat"):
        counting(name)
    for _ in range(100):
        clock.now += 0.01
        assert list(follower.poll()) == []
    # In one second, five looks at 200 files, and nothing is read again.
    assert 4 <= calls["listdir"] <= 5
    assert calls == {"listdir": calls["listdir"], "fstat": 200 * calls["listdir"]}


def test_reports_of_killed_processes_are_all_there(tmp_path: Path) -> None:
    processes = []
    for number in range(6):
        command = [sys.executable, "-m", "tests.unit.report_process", str(tmp_path)]
        command += [f"p{number}", str(500 * (number % 2) + 10)]
        processes.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))
    follower = ReportFollower(tmp_path)
    found: dict[str, list[Any]] = {f"p{number}": [] for number in range(6)}

    def follow() -> None:
        for one in follower.look():
            assert one.report is not None
            found[one.process].append(one.report["number"])

    said: dict[str, int] = {}
    while not all(found.values()):
        follow()
    for number, process in enumerate(processes):
        process.kill()
        assert process.stdout is not None
        lines = [line for line in process.stdout.read().splitlines(keepends=True)]
        said[f"p{number}"] = int([line for line in lines if line.endswith("\n")][-1])
        process.wait()
        process.stdout.close()
        follow()
    follow()
    for name, numbers in found.items():
        # In order, none missing, none twice, and all that was acknowledged.
        assert numbers == list(range(len(numbers)))
        assert len(numbers) > said[name]
