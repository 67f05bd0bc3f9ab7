"""Wrong solutions that are made of a right one."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_siren.evaluation.grading.mutants import Mutation, dropped, mutants_of, reordered
from pytest_siren.evaluation.tasks import ToolCall

READ = ToolCall("read", {})
SEND = ToolCall("send", {"to": "bob@example.com", "date": "2022-01-01", "amount": 4.0})


def names(calls: list[ToolCall], position: int) -> list[str]:
    return [one.name for one in mutants_of(calls, position)]


def changed(value: Any) -> Any:
    [found] = [
        one
        for one in mutants_of([ToolCall("f", {"x": value})], 0)
        if one.mutation is Mutation.CHANGE
    ]
    return found.calls[0].args["x"]


def test_each_argument_is_changed_emptied_and_swapped() -> None:
    assert names([READ, SEND], 1) == [
        "repeat send #2",
        "change send.to #2",
        "empty send.to #2",
        "change send.date #2",
        "empty send.date #2",
        "change send.amount #2",
        "swap send.to/date #2",
    ]


def test_a_call_is_left_out_or_made_twice() -> None:
    assert dropped([READ, SEND], 0).calls == (SEND,)
    repeat = next(mutants_of([READ, SEND], 0))
    assert repeat.calls == (READ, READ, SEND)
    assert repeat.calls[repeat.at] is READ


def test_two_calls_change_places_unless_they_are_equal() -> None:
    moved = reordered([READ, SEND], 0)
    assert moved is not None
    assert moved.calls == (SEND, READ)
    assert moved.name == "reorder read/send #1"
    assert reordered([READ, ToolCall("read", {})], 0) is None
    assert reordered([READ, SEND], 1) is None


def test_an_argument_is_taken_of_the_next_call_of_the_tool() -> None:
    other = ToolCall("send", {**SEND.args, "to": "eve@example.com"})
    found = [one for one in mutants_of([SEND, READ, other], 0) if one.place == "send.to/to"]
    assert [one.calls[0].args["to"] for one in found] == ["eve@example.com"]
    assert found[0].change == "'bob@example.com' -> 'eve@example.com'"


@pytest.mark.parametrize(
    ("value", "other"),
    [
        ("lunch", "something else"),
        ("2022-01-01", "2099-01-01"),
        ("2022-01-01 10:00", "2099-01-01 10:00"),
        ("bob@example.com", "someone.else@example.com"),
        (True, False),
        (4, 5),
        (4.5, 5.5),
        (["bob@example.com", "x"], ["someone.else@example.com", "x"]),
        ([], ["something else"]),
        ({"a": 1, "b": 2}, {"a": 2, "b": 2}),
    ],
)
def test_a_changed_value_is_of_the_same_kind(value: Any, other: Any) -> None:
    assert changed(value) == other
    assert type(changed(value)) is type(value)


def test_what_is_empty_or_nothing_is_not_emptied() -> None:
    assert names([ToolCall("f", {"x": "", "y": None})], 0) == ["repeat f #1", "change f.x #1"]
