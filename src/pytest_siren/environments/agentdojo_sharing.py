"""What two states of an environment have in common, as the same objects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

_PARTS = (BaseModel, dict, list)


def share_equal(before: Any, after: Any, *, containers: bool) -> None:
    """Let ``before`` hold the very objects of ``after`` wherever a part of both is equal.

    Both are models, mappings or lists of the same type.

    AgentDojo's evaluators compare whole environments with deepdiff, which passes over what is
    identical at once but takes some 50 ms to find a thousand equal items equal. Without
    ``containers`` only models in lists and mappings are shared, so that an evaluator that adds or
    removes items changes one side only.
    """
    if isinstance(before, BaseModel):
        before, after, items = vars(before), vars(after), False
    else:
        items = True
    if isinstance(before, list):
        keys: Iterable[Any] = range(min(len(before), len(after)))
    else:
        keys = before.keys() & after.keys()
    for key in keys:
        old, new = before[key], after[key]
        if old is new or type(old) is not type(new) or not isinstance(old, _PARTS):
            continue
        if (containers or (items and isinstance(old, BaseModel))) and old == new:
            before[key] = new
        else:
            share_equal(old, new, containers=containers)
