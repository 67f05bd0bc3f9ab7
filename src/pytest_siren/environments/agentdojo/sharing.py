"""Replaces equal parts of two states of an environment by the same objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel

_PARTS = (BaseModel, dict, list)


@contextmanager
def dedupe_equal_parts(before: Any, after: Any) -> Iterator[None]:
    """Inside the context, let ``before`` hold the objects of ``after`` wherever both are equal.

    Both are models, mappings or lists of the same type. Afterwards ``before`` holds its own objects
    again, so that an evaluator that changes one state leaves the other unchanged.

    AgentDojo's evaluators compare whole environments with deepdiff, which skips identical objects
    at once but takes some 50 ms to compare a thousand equal items.
    """
    replaced: list[tuple[Any, Any, Any]] = []
    _share(before, after, replaced)
    try:
        yield
    finally:
        for holder, key, own in reversed(replaced):
            holder[key] = own


def _share(before: Any, after: Any, replaced: list[tuple[Any, Any, Any]]) -> None:
    if isinstance(before, BaseModel):
        before, after = vars(before), vars(after)
    if isinstance(before, list):
        keys: Iterable[Any] = range(min(len(before), len(after)))
    else:
        keys = before.keys() & after.keys()
    for key in keys:
        old, new = before[key], after[key]
        if old is new or type(old) is not type(new) or not isinstance(old, _PARTS):
            continue
        if old == new:
            replaced.append((before, key, old))
            before[key] = new
        else:
            _share(old, new, replaced)
