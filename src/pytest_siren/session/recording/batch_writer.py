"""The thread that waits for the disk."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from queue import SimpleQueue

from pytest_siren.jobs.writing.store import JobStore, Recorded
from pytest_siren.session.execution.event_loop import Lull

_LINGER = 0.02
"""Seconds that the first of a batch waits for others."""
_LATEST = 0.02
"""Seconds, after that, for which the batch waits for a lull."""
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
    Only the waiting is done in the thread: code in it would take the interpreter from the runs. It
    begins when they have no use for it: each call of the thread's to the operating system hands the
    interpreter over and back.
    """

    def __init__(self, lull: Lull) -> None:
        self._lull = lull
        self._gathered: list[_Waiting] = []
        self._timer: asyncio.TimerHandle
        """Of what is gathered."""
        self._queue: SimpleQueue[list[_Waiting] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self.failed = False
        """Whether the disk refused anything."""

    def settle(self, store: JobStore, recorded: Recorded) -> asyncio.Future[None]:
        """Return a future that is done when ``recorded`` is on the disk and in the index."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="siren-records", daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._gathered.append((store, recorded, future))
        if len(self._gathered) == 1:
            self._timer = loop.call_later(_LINGER, self._await_lull, loop)
        elif len(self._gathered) == _MOST:
            self.hand_over()
        return future

    def hand_over(self) -> bool:
        """Let the thread see to what is gathered. It always returns ``True``, for ``Lull``."""
        if self._gathered:
            self._timer.cancel()
            self._lull.forget(self.hand_over)
            self._queue.put(self._gathered)
            self._gathered = []
        return True

    def close(self) -> None:
        """Wait until everything is written."""
        self.hand_over()
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join()

    def _await_lull(self, loop: asyncio.AbstractEventLoop) -> None:
        self._lull.ask(self.hand_over)
        self._timer = loop.call_later(_LATEST, self.hand_over)

    def _serve(self) -> None:
        while (batch := self._queue.get()) is not None:
            self._settle(batch)

    def _settle(self, batch: list[_Waiting]) -> None:
        for store in dict.fromkeys(store for store, _, _ in batch):
            mine = [(recorded, future) for other, recorded, future in batch if other is store]
            error: BaseException | None = None
            try:
                store.settle([recorded for recorded, _ in mine])
            except OSError as refused:
                error = RecordingError(store.path, refused)
            except BaseException as raised:  # noqa: BLE001 - whoever waits is told
                error = raised
            self.failed = self.failed or error is not None
            loop = mine[0][1].get_loop()
            # After a second Ctrl-C nobody waits any more.
            if not loop.is_closed():
                loop.call_soon_threadsafe(_tell, [future for _, future in mine], error)


def _tell(futures: list[asyncio.Future[None]], error: BaseException | None) -> None:
    for future in futures:
        if future.done():
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(None)
