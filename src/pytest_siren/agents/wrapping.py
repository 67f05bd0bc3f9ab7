"""Records the calls of tools that an agent has of its own."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any, TypeVar

from pydantic_ai import RunContext
from pydantic_core import to_jsonable_python

from pytest_siren.evaluation.isolation import one_line
from pytest_siren.evaluation.tasks import ToolCall, ToolOutcome
from pytest_siren.evaluation.world import World

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def wrapped(world: World, tool: F) -> F:
    """Return ``tool`` so that each call is recorded in the run of ``world``, with what it came to.

    The function has the name, the docstring and the annotations of ``tool``; it returns and raises
    what that does, ``UsageLimitExceeded`` and, after the end of the run, ``RunOverError``.
    Raises ``TypeError`` for what is no function.
    """
    if not callable(tool) or inspect.isclass(tool):
        raise TypeError(
            f"siren_run.wrap takes a function, not {type(tool).__name__}: "
            "wrap the function that the framework makes its tool of"
        )
    calls = _Calls(world, tool)
    if inspect.iscoroutinefunction(tool) or inspect.iscoroutinefunction(_call_of(tool)):

        @wraps(tool)
        async def call(*args: Any, **kwargs: Any) -> Any:
            call = await calls.there(calls.begun(args, kwargs))
            return await calls.finished(call, tool(*args, **kwargs))

        return call  # type: ignore[return-value]

    @wraps(tool)
    def call_and_wait(*args: Any, **kwargs: Any) -> Any:
        call = calls.waited(calls.begun(args, kwargs))
        with calls.noting_errors(call):
            result = tool(*args, **kwargs)
        if inspect.isawaitable(result):
            return calls.finished(call, result)
        calls.waited(world.end_call(call, _outcome(result)))
        return result

    return call_and_wait  # type: ignore[return-value]


def _call_of(tool: Any) -> Any:
    return getattr(type(tool), "__call__", None)  # noqa: B004 - of an object that may be called


class _Calls:
    """Notes the calls of one tool."""

    def __init__(self, world: World, tool: Callable[..., Any]) -> None:
        self.name = getattr(tool, "__name__", type(tool).__name__)
        self._world = world
        try:
            self._signature: inspect.Signature | None = inspect.signature(tool)
        except ValueError:
            self._signature = None  # a function written in C may have none

    async def begun(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> ToolCall:
        """Note that the tool is called. Raises as ``World.begin_call`` does."""
        return await self._world.begin_call(self.name, self._named(args, kwargs))

    def _named(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments by name, as JSON; contexts of pydantic-ai are left out."""
        named: dict[str, Any] = {**{str(at): one for at, one in enumerate(args)}, **kwargs}
        if self._signature is not None:
            with suppress(TypeError):  # the tool itself refuses them
                named = dict(self._signature.bind(*args, **kwargs).arguments)
        return {
            name: _plain(value)
            for name, value in named.items()
            if not isinstance(value, RunContext)
        }

    async def finished(self, call: ToolCall, result: Any) -> Any:
        """Return what ``result`` comes to, and note it."""
        try:
            found = await result
        except BaseException as error:
            await self.there(self._world.end_call(call, ToolOutcome(one_line(error), error=True)))
            raise
        await self.there(self._world.end_call(call, _outcome(found)))
        return found

    async def there(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what ``work`` returns on the event loop of the run."""
        if self._world.is_here:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._world.loop))

    @contextmanager
    def noting_errors(self, call: ToolCall) -> Iterator[None]:
        """Note what the tool raises in this block."""
        try:
            yield
        except BaseException as error:
            self.waited(self._world.end_call(call, ToolOutcome(one_line(error), error=True)))
            raise

    def waited(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what ``work`` returns on the event loop of the run, in any thread."""
        if not self._world.is_here:
            return asyncio.run_coroutine_threadsafe(work, self._world.loop).result()
        # The thread must not wait for itself; nothing in it waits where nobody observes the run.
        try:
            work.send(None)
        except StopIteration as ended:
            return ended.value  # type: ignore[no-any-return]
        work.close()
        raise RuntimeError(
            f"{self.name} blocks the thread of the event loop, where hooks that observe calls "
            "cannot be awaited: make it a coroutine function"
        )


def _outcome(result: Any) -> ToolOutcome:
    plain = _plain(result)
    text = plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
    return ToolOutcome(text, value=plain)


def _plain(value: Any) -> Any:
    return to_jsonable_python(value, fallback=lambda other: f"<{type(other).__name__}>")
