"""Which runs a process of an element begins, and when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_siren.distribute.cluster import process
from pytest_siren.distribute.cluster.leases import Block, Leases
from pytest_siren.distribute.cluster.plan import SessionStore
from pytest_siren.distribute.cluster.process import DroppedRuns, LeaseFeed


@dataclass
class Waiting:
    """As much of a ``Line`` as a feed uses."""

    items: list[Any] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.items)

    def put(self, item: Any) -> None:
        self.items.append(item)


@dataclass
class Some:
    """A feed over four blocks of four runs, and the line that it fills."""

    folder: Path
    window: int = 8
    line: Any = field(default_factory=Waiting)

    def __post_init__(self) -> None:
        self.blocks = [Block(at, 4 * at, 4 * at + 4) for at in range(4)]
        self.items: list[Any] = [
            SimpleNamespace(nodeid=f"a::{at}", reported=False) for at in range(16)
        ]
        self.store = SessionStore(self.folder)

    def leases(
        self,
        owner: str,
        alive: Callable[[str], bool] = lambda owner: True,
        died: Callable[[str], bool] = lambda owner: True,
    ) -> Leases:
        return Leases(self.folder / "leases", self.blocks, owner, alive, died=died)

    def feed(self, leases: Leases, recorded: frozenset[str] = frozenset()) -> LeaseFeed:
        return LeaseFeed(
            leases,
            self.items,
            self.window,
            DroppedRuns(self.store),
            lambda item: item.nodeid in recorded,
        )

    def begun(self) -> list[int]:
        """Take what waits out of the line; return the places of the runs."""
        found = [self.items.index(item) for item in self.line.items]
        self.line.items.clear()
        return found


def all_leased_by(some: Some, owner: str) -> None:
    leases = some.leases(owner)
    while leases.take() is not None:
        pass


def test_no_block_is_leased_without_room_for_it(tmp_path: Path) -> None:
    some = Some(tmp_path)
    feed = some.feed(some.leases("p0"))
    feed.poll(some.line, 4)
    # A block for the room, and one behind it while blocks are large.
    assert some.begun() == [*range(8)]
    feed.poll(some.line, -1)
    assert some.begun() == []


def test_what_was_dropped_is_not_begun_unless_it_is_recorded(tmp_path: Path) -> None:
    some = Some(tmp_path)
    some.store.drop(["a::0", "a::1", *(f"a::{at}" for at in range(4, 8))])
    leases = some.leases("p0")
    feed = some.feed(leases, recorded=frozenset({"a::1"}))
    feed.poll(some.line, 8)
    assert some.begun()[:4] == [1, 2, 3, 8]
    assert {block.number for block in some.leases("p1").outstanding()} == {0, 2, 3}


def test_a_block_is_done_with_its_last_run(tmp_path: Path) -> None:
    some = Some(tmp_path)
    feed = some.feed(some.leases("p0"))
    feed.poll(some.line, 1)
    for item in some.items[:3]:
        feed.skip(item)
    assert some.blocks[0] in some.leases("p1").outstanding()
    feed.skip(some.items[3])
    assert some.blocks[0] not in some.leases("p1").outstanding()


@pytest.mark.parametrize(("deaths", "order"), [(1, [0, 1, 2, 3]), (2, [3, 2, 1, 0])])
def test_runs_that_may_kill_are_executed_alone(
    tmp_path: Path, deaths: int, order: list[int]
) -> None:
    some = Some(tmp_path)
    all_leased_by(some, "d0")
    if deaths == 2:
        assert some.leases("d1", lambda owner: False).take_over() is not None
    feed = some.feed(some.leases("p0", lambda owner: owner == "p0"))
    begun = []
    for _ in range(4):
        feed.poll(some.line, 8)
        [place] = some.begun()
        begun.append(place)
        assert some.items[place].reported
        feed.poll(some.line, 8)
        assert some.begun() == []  # while the other is in flight
        feed.skip(some.items[place])
    assert begun == order


def test_runs_of_a_process_that_was_preempted_are_executed_side_by_side(tmp_path: Path) -> None:
    some = Some(tmp_path)
    all_leased_by(some, "d0")
    leases = some.leases("p0", lambda owner: owner == "p0", died=lambda owner: False)
    feed = some.feed(leases)
    feed.poll(some.line, 8)
    assert some.begun() == [0, 1, 2, 3]


def test_a_process_waits_for_runs_of_others_and_then_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = Some(tmp_path)
    all_leased_by(some, "other")
    feed = some.feed(some.leases("p0"))
    feed.poll(some.line, 8)
    assert not feed.closed
    monkeypatch.setattr(process, "IDLE", 0.0)
    feed.poll(some.line, 8)
    assert feed.closed


def test_a_process_ends_at_once_when_all_is_done(tmp_path: Path) -> None:
    some = Some(tmp_path)
    leases = some.leases("other")
    while (block := leases.take()) is not None:
        leases.done(block)
    feed = some.feed(some.leases("p0"))
    feed.poll(some.line, 8)
    assert feed.closed
