"""Items that wait for their turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pytest

from pytest_siren.session.items import RunItem

_Batch = dict[int, deque[RunItem]]


class Line:
    """Waiting items in order: runs in a row may overtake each other, nothing overtakes a test.

    A test that is no run is alone: it waits until the runs before it have ended.
    """

    def __init__(self) -> None:
        self.in_order = False
        """Whether runs begin in their order, as far as there is room, whatever their jobs are."""
        self._came: dict[int, int] = {}
        self._parts: deque[_Batch | pytest.Item] = deque()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def put(self, item: pytest.Item) -> None:
        """Let ``item`` wait behind all others."""
        self._length += 1
        if not isinstance(item, RunItem):
            self._parts.append(item)
            return
        if not self._parts or not isinstance(self._parts[-1], dict):
            self._parts.append({})
        batch = self._parts[-1]
        assert isinstance(batch, dict)
        batch.setdefault(id(item.job), deque()).append(item)
        if self.in_order:
            self._came[id(item)] = len(self._came)

    def next_run(self, room: Callable[[RunItem], bool]) -> RunItem | None:
        """Take the first run that there is ``room`` for, unless a test is before it."""
        if not self._parts or not isinstance(self._parts[0], dict):
            return None
        batch = self._parts[0]
        jobs = list(batch.items()) if self.in_order else batch.items()
        if isinstance(jobs, list):
            jobs.sort(key=lambda entry: self._came[id(entry[1][0])])
        for job, waiting in jobs:
            if room(waiting[0]):
                item = waiting.popleft()
                if not waiting:
                    del batch[job]
                if not batch:
                    self._parts.popleft()
                self._length -= 1
                return item
        return None

    def next_test(self) -> pytest.Item | None:
        """Take the first item if it is no run."""
        if not self._parts or isinstance(self._parts[0], dict):
            return None
        item = self._parts.popleft()
        assert isinstance(item, pytest.Item)
        self._length -= 1
        return item

    def first(self) -> pytest.Item | None:
        """Return the item that waits longest, and leave it there."""
        if not self._parts:
            return None
        part = self._parts[0]
        return next(iter(part.values()))[0] if isinstance(part, dict) else part
