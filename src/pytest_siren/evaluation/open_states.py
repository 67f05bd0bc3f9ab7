"""The environment's states that a run holds open, and what they were before the run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pytest_siren.evaluation.components import implements
from pytest_siren.evaluation.tasks import (
    BenignTask,
    CopyableEnvironment,
    Environment,
    SnapshotEnvironment,
)

_Key: TypeAlias = frozenset[tuple[str, str]]
"""Contents, as they can be looked up."""


@dataclass
class _Open:
    """One state of the environment, and what frees it."""

    state: Any
    resources: AsyncExitStack
    contents: _Key
    executed: int
    """Calls that have been executed on it since the environment was opened."""
    freed: bool = False


@dataclass(eq=False)
class OpenStates:
    """Opens, copies and frees the states of ``environment`` in one run.

    All that is open is freed by ``aclose``, the last one first.
    """

    environment: Environment
    task: BenignTask
    kept: bool = False
    """Whether each state is copied before calls are executed on it, so that it stays as it is."""
    _resources: AsyncExitStack = field(default_factory=AsyncExitStack)
    _open: dict[int, _Open] = field(default_factory=dict)
    """By ``id`` of the state, which is kept here so that no other gets its id."""
    _before: dict[_Key, tuple[Any, AsyncExitStack]] = field(default_factory=dict)

    @property
    def copies(self) -> bool:
        """Whether the environment can copy a state."""
        return self._snapshots or implements(self.environment, CopyableEnvironment)

    @property
    def _snapshots(self) -> bool:
        return implements(self.environment, SnapshotEnvironment)

    async def open(self, contents: Mapping[str, str], executed: int = 0) -> Any:
        """Open the environment with ``contents``; keep what it was then, if it can be copied.

        ``executed`` is the number of calls that are about to be replayed on it.
        """
        key = _key(contents)
        resources = await self._owned()
        state = await resources.enter_async_context(self.environment.open(self.task, contents))
        self._open[id(state)] = _Open(state, resources, key, executed)
        if self.copies and key not in self._before:
            kept = await self._owned()
            self._before[key] = await self._copied(state, kept), kept
        return state

    async def copy(self, state: Any, contents: Mapping[str, str], executed: int) -> Any:
        """Return an independent copy of ``state``, which ``executed`` calls lead to."""
        if self.kept and not self._snapshots:
            return self._plain_copy(state)  # There is nothing to free, and it stays as it is.
        resources = await self._owned()
        copied = await self._copied(state, resources)
        self._open[id(copied)] = _Open(copied, resources, _key(contents), executed)
        return copied

    @asynccontextmanager
    async def lent(self, state: Any) -> AsyncIterator[Any]:
        """Yield a copy of ``state`` for whoever may change it; the state if it cannot be copied."""
        if state is None or not self.copies:
            yield state
            return
        async with AsyncExitStack() as resources:
            yield await self._copied(state, resources)

    def before(self, contents: Mapping[str, str]) -> Any:
        """Return the state as it was when it was first opened with ``contents``.

        ``None`` where the environment can copy no states.
        """
        state, _ = self._before.get(_key(contents), (None, None))
        return state

    def executed(self, state: Any, calls: int) -> None:
        """Take notice that ``calls`` in all have been executed on ``state``."""
        if (one := self._open.get(id(state))) is not None:
            one.executed = calls

    def is_at(self, state: Any, calls: int) -> bool:
        """Return whether ``state`` is open, and as it was after ``calls``.

        A state that was not opened here belongs to the agent, which answers for it.
        """
        one = self._open.get(id(state))
        return one is None or (not one.freed and one.executed == calls)

    async def free(self, state: Any) -> None:
        """Free ``state``, and what it was before if nothing else was opened with its contents."""
        one = self._open.get(id(state))
        if one is None or one.freed:
            return
        one.freed = True
        others = (each.contents for each in self._open.values() if not each.freed)
        if one.contents not in others and one.contents in self._before:
            _, kept = self._before.pop(one.contents)
            one.resources.push_async_exit(kept)
        await one.resources.aclose()

    async def aclose(self) -> None:
        """Free all. Raises what freeing the last of those raised that could not be freed."""
        await self._resources.aclose()

    async def _owned(self) -> AsyncExitStack:
        return await self._resources.enter_async_context(AsyncExitStack())

    async def _copied(self, state: Any, resources: AsyncExitStack) -> Any:
        if implements(self.environment, SnapshotEnvironment):
            return await resources.enter_async_context(self.environment.snapshot(state))
        return self._plain_copy(state)

    def _plain_copy(self, state: Any) -> Any:
        assert implements(self.environment, CopyableEnvironment)
        return self.environment.copy(state)


def _key(contents: Mapping[str, str]) -> _Key:
    return frozenset(contents.items())
