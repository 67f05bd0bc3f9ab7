"""Wrong solutions, made of a right one by a single change each.

Mutation analysis (DeMillo, Lipton and Sayward 1978, "Hints on test data selection") of graders: a
grader that accepts a mutant would accept an agent that makes the same mistake.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import combinations
from typing import Any

from pytest_siren.evaluation.tasks import ToolCall

_DATE = re.compile(r"\d{4}(-\d{2}-\d{2}.*)", re.DOTALL)
_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_OTHER_YEAR, _OTHER_ADDRESS, _OTHER = "2099", "someone.else@example.com", "something else"


class Mutation(StrEnum):
    """What was done to the right solution."""

    DROP = "drop"
    """A call is left out."""
    REPEAT = "repeat"
    """A call is made twice."""
    REORDER = "reorder"
    """Two calls that follow each other change places."""
    CHANGE = "change"
    """An argument has another value of its kind."""
    SWAP = "swap"
    """Two arguments of a call, or the same one of two calls of a tool, change places."""
    EMPTY = "empty"
    """An argument is empty."""


@dataclass(frozen=True)
class Mutant:
    """A wrong solution."""

    mutation: Mutation
    position: int
    """0-based, of the call that was mutated."""
    place: str
    """The tool, or ``tool.argument``; of two, with ``/`` between them."""
    calls: tuple[ToolCall, ...]
    """All calls of the wrong solution."""
    at: int
    """0-based, of the mutated call in ``calls``; -1 where it is not there."""
    change: str = ""
    """The value before and after."""

    @property
    def name(self) -> str:
        """Names it among the mutants of a task, such as ``change send_money.recipient #2``."""
        return f"{self.mutation} {self.place} #{self.position + 1}"


def mutants_of(calls: Sequence[ToolCall], position: int) -> Iterator[Mutant]:
    """Yield the mutants of the call at ``position`` of a solution, but for dropping it."""
    call = calls[position]
    yield Mutant(
        Mutation.REPEAT,
        position,
        call.name,
        (*calls[: position + 1], *calls[position:]),
        position + 1,
    )
    for mutation, places, args in _with_other_arguments(calls, position):
        old = {name: call.args.get(name) for name in args if args[name] != call.args.get(name)}
        change = ", ".join(f"{value!r} -> {args[name]!r}" for name, value in old.items())
        other = (*calls[:position], replace(call, args=args), *calls[position + 1 :])
        yield Mutant(mutation, position, f"{call.name}.{places}", other, position, change)


def dropped(calls: Sequence[ToolCall], position: int) -> Mutant:
    """Return the solution without the call at ``position``."""
    left = (*calls[:position], *calls[position + 1 :])
    return Mutant(Mutation.DROP, position, calls[position].name, left, -1)


def reordered(calls: Sequence[ToolCall], position: int) -> Mutant | None:
    """Return the solution with the call at ``position`` after the next; ``None`` if they are equal.

    The last call has no next one.
    """
    if position + 1 >= len(calls) or _same(calls[position], calls[position + 1]):
        return None
    one, other = calls[position : position + 2]
    moved = (*calls[:position], other, one, *calls[position + 2 :])
    return Mutant(Mutation.REORDER, position, f"{one.name}/{other.name}", moved, position + 1)


def _same(one: ToolCall, other: ToolCall) -> bool:
    return one.name == other.name and dict(one.args) == dict(other.args)


def _with_other_arguments(
    calls: Sequence[ToolCall], position: int
) -> Iterator[tuple[Mutation, str, dict[str, Any]]]:
    args = dict(calls[position].args)
    for name, value in args.items():
        for mutation, other in (
            (Mutation.CHANGE, _changed(value)),
            (Mutation.EMPTY, _empty(value)),
        ):
            if other is not None and other != value:
                yield mutation, name, {**args, name: other}
    for one, other in combinations(args, 2):
        first, second = args[one], args[other]
        if type(first) is type(second) and first != second and _empty(first) is not None:
            yield Mutation.SWAP, f"{one}/{other}", {**args, one: second, other: first}
    yield from _of_other_calls(calls, position, args)


def _of_other_calls(
    calls: Sequence[ToolCall], position: int, args: dict[str, Any]
) -> Iterator[tuple[Mutation, str, dict[str, Any]]]:
    """Yield ``args`` with one value that the next call of the same tool has."""
    name = calls[position].name
    following = next((call for call in calls[position + 1 :] if call.name == name), None)
    for key, value in (following.args if following else {}).items():
        if key in args and args[key] != value:
            yield Mutation.SWAP, f"{key}/{key}", {**args, key: value}


def _changed(value: Any) -> Any:
    """Return another value of the kind of ``value``; ``None`` if there is none."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return _other_text(value)
    if isinstance(value, list):
        return [_changed(value[0]), *value[1:]] if value else [_OTHER]
    if isinstance(value, dict) and value:
        first = next(iter(value))
        return {**value, first: _changed(value[first])}
    return None


def _other_text(text: str) -> str:
    if dated := _DATE.fullmatch(text):
        return f"{_OTHER_YEAR}{dated[1]}"
    return _OTHER_ADDRESS if _ADDRESS.fullmatch(text) else _OTHER


def _empty(value: Any) -> Any:
    """Return what is empty of the kind of ``value``; ``None`` for what cannot be empty."""
    return type(value)() if isinstance(value, str | list | dict) else None
