"""One writer of an index at a time, and what happens where locks do not work."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from pytest_siren.jobs.reading.read import iter_index
from pytest_siren.jobs.writing.write import append, locked


def test_a_second_writer_waits_for_the_first(tmp_path: Path) -> None:
    path = tmp_path / "index"
    order = []

    def second() -> None:
        with locked(path):
            order.append("second")

    with locked(path):
        other = threading.Thread(target=second)
        other.start()
        other.join(0.2)
        order.append("first")
    other.join()
    assert order == ["first", "second"]


def test_who_waited_for_a_file_that_was_replaced_writes_into_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "index"
    path.write_text("old\n")
    with locked(path):
        other = threading.Thread(target=append, args=(path, [{"line": 1}]))
        other.start()
        other.join(0.2)
        (tmp_path / "new").write_text("new\n")
        os.replace(tmp_path / "new", path)
    other.join()
    assert path.read_text() == 'new\n{"line":1}\n'


def test_without_locks_lines_are_appended_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> None:
        raise OSError("no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    path = tmp_path / "index.jsonl"
    threads = [
        threading.Thread(target=append, args=(path, [{"line": number}])) for number in range(50)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = [line for line in path.read_text().splitlines() if line]
    assert sorted(lines) == sorted(f'{{"line":{number}}}' for number in range(50))


def test_an_index_that_is_not_there_has_no_lines(tmp_path: Path) -> None:
    assert list(iter_index(tmp_path)) == []
