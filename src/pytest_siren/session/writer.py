"""The thread that waits for the disk."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from queue import Empty, SimpleQueue

from pytest_siren.jobs.store import JobStore, Recorded

_LINGER = 0.02
"""Seconds that the first of a batch waits for others."""
_MOST = 64
"""Attempts in a batch; the descriptor of each is open until then."""

_Waiting = tuple[JobStore, Recorded, "asyncio.Future[None]"]


class RecordingError(Exception):
    """A record cannot be written, so no other can be expected to."""

    def __init__(self, job: Path, error: OSError) -> None:
        super().__init__(f"{job} cannot be written: {error.strerror or error}")


class Writer:
    """Sees to it that recorded attempts reach the disk, many at a time.

    The disk is slow to say that it has something, and hardly slower for many files than for one.
    Only the waiting is done in the thread: code in it would take the interpreter from the runs.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self.failed = False
        """Whether the disk refused anything."""

    def settle(self, store: JobStore, recorded: Recorded) -> asyncio.Future[None]:
        """Return a future that is done when ``recorded`` is on the disk and in the index."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="siren-records")
            self._thread.start()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put((store, recorded, future))
        return future

    def close(self) -> None:
        """Wait until everything is written."""
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join()

    def _serve(self) -> None:
        last = False
        while not last and (first := self._queue.get()) is not None:
            batch = [first]
            time.sleep(_LINGER)
            while len(batch) < _MOST and not last:
                try:
                    more = self._queue.get_nowait()
                except Empty:
                    break
                if more is None:
                    last = True
                else:
                    batch.append(more)
            self._settle(batch)

    def _settle(self, batch: list[_Waiting]) -> None:
        for store in dict.fromkeys(store for store, _, _ in batch):
            mine = [(recorded, future) for other, recorded, future in batch if other is store]
            error: Exception | None = None
            try:
                store.settle([recorded for recorded, _ in mine])
            except OSError as refused:
                error = RecordingError(store.path, refused)
            except Exception as raised:  # noqa: BLE001 - whoever waits is told
                error = raised
            self.failed = self.failed or error is not None
            loop = mine[0][1].get_loop()
            # After a second Ctrl-C nobody waits any more.
            if not loop.is_closed():
                loop.call_soon_threadsafe(_tell, [future for _, future in mine], error)


def _tell(futures: list[asyncio.Future[None]], error: Exception | None) -> None:
    for future in futures:
        if future.done():
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(None)
