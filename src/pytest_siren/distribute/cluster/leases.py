"""Which process of a cluster's session executes which runs.

The runs of a group are cut into blocks, and a process leases a block before it executes one. A
lease is a symbolic link that names its owner: it is created with its text in one step that fails
when there is one, which every shared file system has, where locks may be missing or slow. No entry
of the folder is ever changed or removed:

- ``12.0`` is the lease of block 12, ``12.1`` that of who took it over after the first owner's death
- ``12.done`` says that all runs of block 12 have been reported

A process that reads an old listing of the folder therefore sees too many free blocks and never too
few, and finds out when it fails to create the lease.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_siren.sharing.listing import current_names

MOST_DEATHS = 3
"""Owners that may die with a block before nobody takes it over any more."""
LOOK = 1.0
"""Seconds for which a listing is good enough to find blocks of the dead."""
_SHARE = 0.05
"""The most of a process's time that it may spend on listings while it waits."""
_PARTS = 8
"""Blocks for each process, if what is left were cut into equal ones."""
_FAILURES = 4
"""Blocks that turned out to be taken after which a process lists the folder again."""
_DONE = "done"


@dataclass(frozen=True)
class Block:
    """Some runs in a row of a group: those from ``start`` to before ``stop``."""

    number: int
    start: int
    stop: int


@dataclass(frozen=True)
class Lease:
    """A block that was taken over from an owner that has ended."""

    block: Block
    deaths: int
    """Owners that have died with it."""


def blocks(count: int, processes: int, window: int) -> list[Block]:
    """Cut ``count`` runs into blocks for ``processes`` that have ``window`` runs in flight each.

    Guided self-scheduling (Polychronopoulos and Kuck, 1987): each block is a part of what is left
    for every process, so that the first ones are large and the last ones single runs, and slow
    processes keep nobody waiting for long. None is larger than half a window, for the runs of a
    block begin only when there is room.
    """
    most = max(1, window // 2)
    found: list[Block] = []
    start = 0
    while start < count:
        size = min(most, -(-(count - start) // (_PARTS * processes)))
        found.append(Block(len(found), start, start + size))
        start += size
    return found


class Leases:
    """The leases of one group, for one process of the session. Its methods raise ``OSError``.

    ``owner`` is the name of this process, which no other one has or had, and ``alive`` tells
    whether the process of a name lives; ``died``, of one that does not, whether it was killed or
    failed rather than ended in order, as after a preemption. ``offset`` is the number of this
    process among about ``stride``, which begin with different blocks.
    """

    def __init__(
        self,
        folder: Path,
        blocks: Sequence[Block],
        owner: str,
        alive: Callable[[str], bool],
        offset: int = 0,
        stride: int = 1,
        died: Callable[[str], bool] = lambda owner: True,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._blocks = blocks
        self._owner = owner
        self._alive = alive
        self._died = died
        self._offset = offset
        self._stride = stride
        self._generations: dict[int, int] = {}
        """Number of a block to the latest generation of its lease that is known."""
        self._owners: dict[tuple[int, int], str] = {}
        """Number and generation to the owner, once somebody wanted to know."""
        self._open = {block.number: block for block in blocks}
        """What is not known to be done."""
        self._dead: deque[tuple[Lease, int]] = deque()
        """Blocks to take over, and the generation of the lease that their last owner had."""
        self._lost: list[Block] = []
        self._failures = 0
        """Blocks that turned out to be taken, since the folder was listed."""
        self._next_look = 0.0
        """When to list it again for blocks of the dead, by the monotonic clock."""
        self._queue: deque[Block] = deque()

    def take(self) -> Block | None:
        """Lease a block that nobody has had, of the own share first; ``None`` if all are taken.

        Once it has returned ``None``, it always does.
        """
        while (block := self._next()) is not None:
            if self._lease(block, 0):
                return block
            self._failures += 1
        return None

    def take_over(self) -> Lease | None:
        """Lease a block whose owner has ended before it was done; ``None`` while there is none.

        Who takes a block over looks first which of its runs have a record.
        """
        if not self._dead:
            self._look_if_due()
        while self._dead:
            lease, generation = self._dead.popleft()
            if lease.block.number in self._open and self._lease(lease.block, generation + 1):
                return lease
        return None

    def done(self, block: Block) -> None:
        """Note that all runs of ``block`` have been reported."""
        self._create(f"{block.number}.{_DONE}")
        self._open.pop(block.number, None)

    def outstanding(self) -> list[Block]:
        """Return the blocks that are neither done nor lost, as they were ``LOOK`` seconds ago."""
        self._look_if_due()
        lost = set(self._lost)
        return [block for block in self._open.values() if block not in lost]

    def lost(self) -> list[Block]:
        """Return the blocks that ``MOST_DEATHS`` owners died with, which nobody takes over."""
        self._look_if_due()
        return list(self._lost)

    # How it finds blocks.

    def _next(self) -> Block | None:
        """Return what may be free, of this process's share."""
        while len(self._generations) < len(self._blocks):
            if self._failures >= _FAILURES or not self._queue:
                self._look()
                self._share_out()
            while self._queue:
                block = self._queue.popleft()
                if block.number not in self._generations:
                    return block
        return None

    def _share_out(self) -> None:
        """Queue this process's share of the free blocks, or a part of others' if that is gone.

        Those who have the same listing thus get different blocks.
        """
        free = [block for block in self._blocks if block.number not in self._generations]
        own = [block for block in free if block.number % self._stride == self._offset]
        others = free[self._offset % max(1, len(free)) :: self._stride]
        self._queue = deque(own or others)
        self._failures = 0

    def _find_dead(self) -> None:
        """Find the blocks whose owner has died, to be taken over or lost."""
        self._dead.clear()
        self._lost.clear()
        lives = {self._owner: True}
        for block in self._open.values():
            generation = self._generations.get(block.number)
            if generation is None:
                continue
            owner = self._owner_of(block.number, generation)
            if owner not in lives:
                lives[owner] = self._alive(owner)
            if lives[owner]:
                continue
            deaths = self._deaths(block.number, generation)
            if deaths < MOST_DEATHS:
                self._dead.append((Lease(block, deaths), generation))
            else:
                self._lost.append(block)
        self._dead.rotate(-self._offset)

    def _deaths(self, number: int, generation: int) -> int:
        """Return how many owners died with a block, up to the one of ``generation``."""
        owners = (self._owner_of(number, one) for one in range(generation + 1))
        return sum(self._died(owner) for owner in owners)

    # The folder.

    def _lease(self, block: Block, generation: int) -> bool:
        mine = self._create(f"{block.number}.{generation}")
        self._learn(block.number, generation)
        if mine:
            self._owners[block.number, generation] = self._owner
        return mine

    def _create(self, name: str) -> bool:
        """Create an entry that names this process; tell whether it is this process's."""
        path = self._folder / name
        try:
            os.symlink(self._owner, path)
        except FileExistsError:
            # A server that is asked twice since its answer got lost refuses the second time.
            return os.readlink(path) == self._owner
        return True

    def _owner_of(self, number: int, generation: int) -> str:
        if (number, generation) not in self._owners:
            owner = os.readlink(self._folder / f"{number}.{generation}")
            self._owners[number, generation] = owner
        return self._owners[number, generation]

    def _learn(self, number: int, generation: int) -> None:
        self._generations[number] = max(generation, self._generations.get(number, 0))

    def _look_if_due(self) -> None:
        began = time.monotonic()
        if began >= self._next_look:
            self._look()
            self._find_dead()
            now = time.monotonic()
            self._next_look = now + max(LOOK, (now - began) / _SHARE)

    def _look(self) -> None:
        """List the folder. Nothing that was known before is forgotten if the listing is older."""
        for name in current_names(self._folder):
            number, _, generation = name.partition(".")
            if generation == _DONE:
                self._open.pop(int(number), None)
            elif generation.isdecimal():
                self._learn(int(number), int(generation))
