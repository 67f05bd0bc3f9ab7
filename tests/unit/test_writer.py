from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from pytest_siren.session.execution.event_loop import Lull
from pytest_siren.session.recording import recorder
from pytest_siren.session.recording.recorder import RecordingError, Writer


class Disk:
    """A job's store that only says what it was given."""

    path = Path("jobs/one")

    def __init__(self, error: Exception | None = None) -> None:
        self.batches: list[list[Any]] = []
        self.threads: set[str] = set()
        self._error = error

    def settle(self, recorded: list[Any]) -> None:
        self.batches.append(recorded)
        self.threads.add(threading.current_thread().name)
        if self._error is not None:
            raise self._error


async def settle(writer: Writer, disk: Any, *records: Any) -> None:
    await asyncio.gather(*(writer.settle(disk, record) for record in records))


def test_what_comes_within_a_short_time_goes_to_the_thread_together(
    loop: asyncio.AbstractEventLoop, lull: Lull
) -> None:
    writer, disk = Writer(lull), Disk()
    loop.run_until_complete(settle(writer, disk, 1, 2, 3))
    loop.run_until_complete(settle(writer, disk, 4))
    writer.close()
    assert disk.batches == [[1, 2, 3], [4]]
    assert disk.threads == {"siren-records"}


def test_the_thread_begins_when_nothing_else_can_go_on(
    loop: asyncio.AbstractEventLoop, lull: Lull, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "_LINGER", 0.0)
    monkeypatch.setattr(recorder, "_LATEST", 1_000.0)
    writer, disk = Writer(lull), Disk()
    seen: list[int] = []

    async def busy() -> None:
        settled = writer.settle(disk, 1)  # type: ignore[arg-type]
        for _ in range(1_000):
            seen.append(len(disk.batches))
            await asyncio.sleep(0)
        await settled

    loop.run_until_complete(busy())
    writer.close()
    assert not any(seen)
    assert disk.batches == [[1]]


def test_a_batch_does_not_wait_for_a_lull_for_ever(
    loop: asyncio.AbstractEventLoop, lull: Lull
) -> None:
    writer, disk = Writer(lull), Disk()

    async def busy() -> None:
        settled = writer.settle(disk, 1)  # type: ignore[arg-type]
        while not settled.done():
            await asyncio.sleep(0)

    loop.run_until_complete(busy())
    assert disk.batches == [[1]]
    writer.close()


def test_a_full_batch_does_not_wait(loop: asyncio.AbstractEventLoop, lull: Lull) -> None:
    writer, disk = Writer(lull), Disk()
    loop.run_until_complete(settle(writer, disk, *range(150)))
    writer.close()
    assert [len(batch) for batch in disk.batches] == [64, 64, 22]


def test_closing_sees_to_what_is_still_gathered(
    loop: asyncio.AbstractEventLoop, lull: Lull
) -> None:
    writer, disk = Writer(lull), Disk()

    async def leave() -> None:
        writer.settle(disk, 1)  # type: ignore[arg-type]

    loop.run_until_complete(leave())
    assert disk.batches == []
    writer.close()
    assert disk.batches == [[1]]


def test_what_the_disk_refuses_is_told(loop: asyncio.AbstractEventLoop, lull: Lull) -> None:
    writer, disk = Writer(lull), Disk(OSError(28, "No space left on device"))
    with pytest.raises(RecordingError, match="jobs/one cannot be written: No space left"):
        loop.run_until_complete(settle(writer, disk, 1))
    assert writer.failed
    writer.close()
