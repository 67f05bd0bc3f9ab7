"""Copies of models made by a cloner."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, PrivateAttr

from pytest_siren.environments.agentdojo.data import ModelCloner


class Colour(Enum):
    RED = "red"


class Item(BaseModel):
    name: str
    tags: list[str] = []
    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    colour: Colour = Colour.RED


class Shelf(BaseModel):
    model_config = ConfigDict(extra="allow")

    first: list[Item]
    by_name: dict[str, Item] = {}
    pair: tuple[Item, ...] = ()
    anything: Any = None
    _seen: list[str] = PrivateAttr(default_factory=list)


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)

    items: list[int]


class Counted(BaseModel):
    copies: int = 0

    def __deepcopy__(self, memo: Any = None) -> Counted:
        return Counted(copies=self.copies + 1)


def shelf() -> Shelf:
    items = [Item(name="a", tags=["x"]), Item(name="b")]
    full = Shelf(first=items, by_name={item.name: item for item in items}, pair=(items[0],))
    full._seen.append("a")
    full.more = [{"deep": [1, 2]}]  # type: ignore[attr-defined]
    return full


def test_a_copy_is_equal_in_every_way() -> None:
    original = shelf()
    copy = ModelCloner(original).clone()
    assert copy == original == deepcopy(original)
    assert copy.model_fields_set == original.model_fields_set
    assert copy.model_extra == original.model_extra
    assert copy._seen == ["a"]


def test_nothing_that_changes_is_shared() -> None:
    original = shelf()
    cloner, before = ModelCloner(original), deepcopy(original)
    copy = cloner.clone()
    copy.first[0].tags.append("y")
    copy.first.pop()
    copy.by_name.clear()
    copy.pair[0].name = "z"
    copy._seen.append("z")
    copy.more[0]["deep"].append(3)  # type: ignore[attr-defined]
    copy.model_fields_set.clear()
    assert original == before
    assert original._seen == ["a"]
    assert original.model_fields_set == before.model_fields_set
    assert cloner.clone() == before


def test_what_stands_in_two_places_is_one_object_in_the_copy() -> None:
    original = shelf()
    copy = ModelCloner(original).clone()
    assert copy.first[0] is copy.by_name["a"] is copy.pair[0]
    assert copy.first[0] is not original.first[0]


def test_a_replaced_part_is_replaced_wherever_it_stands() -> None:
    original = shelf()
    other = Item(name="other")
    cloner = ModelCloner(original, [original.first[0]])
    copy = cloner.clone({id(original.first[0]): other})
    assert copy.first[0] is copy.by_name["a"] is copy.pair[0] is other
    assert copy.first[1] == original.first[1]
    assert cloner.clone() == original


def test_a_frozen_model_and_one_with_its_own_way_to_copy_are_copied() -> None:
    frozen = ModelCloner(Shelf(first=[], anything=Frozen(items=[1]))).clone().anything
    assert frozen == Frozen(items=[1])
    assert ModelCloner(Shelf(first=[], anything=[Counted()])).clone().anything == [
        Counted(copies=1)
    ]


def test_a_model_that_holds_itself_is_copied() -> None:
    original = Shelf(first=[])
    original.anything = [original]
    copy = ModelCloner(original).clone()
    assert copy.anything[0] is copy
    assert copy is not original


@pytest.mark.parametrize("value", [{1, 2}, (1, [2]), bytearray(b"x"), 1.5, None, {"a": {"b": []}}])
def test_values_of_any_type_are_copied(value: Any) -> None:
    original = Shelf(first=[], anything=value)
    copy = ModelCloner(original).clone().anything
    assert copy == value
    assert type(copy) is type(original.anything)
