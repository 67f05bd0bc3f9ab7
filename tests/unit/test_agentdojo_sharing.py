"""What two states have in common becomes the same objects, and nothing else changes."""

from __future__ import annotations

import asyncio
from copy import deepcopy
from pathlib import Path

import pytest
from pydantic import BaseModel

from pytest_siren.environments.agentdojo.sharing import dedupe_equal_parts


class Item(BaseModel):
    name: str
    tags: list[str]


class World(BaseModel):
    items: list[Item]
    by_name: dict[str, Item]
    log: list[list[str]]


def world() -> World:
    items = [Item(name="a", tags=["x"]), Item(name="b", tags=[])]
    return World(items=items, by_name={item.name: item for item in items}, log=[["1"], ["2"]])


def test_equal_parts_are_the_same_objects_meanwhile_and_two_again_afterwards() -> None:
    before, after = world(), deepcopy(world())
    after.items[0].tags.append("y")
    after.by_name["c"] = Item(name="c", tags=[])
    after.log.pop()
    was, came_to = deepcopy(before), deepcopy(after)
    with dedupe_equal_parts(before, after):
        assert (before, after) == (was, came_to)
        assert before.items[1] is after.items[1]
        assert before.items[0] is not after.items[0]
        assert before.by_name["b"] is after.by_name["b"]
        assert before.log is not after.log
    assert (before, after) == (was, came_to)
    # An evaluator of somebody else may come next, and change what it compares.
    before.items[1].name = "changed"
    before.by_name["b"].tags.append("z")
    before.log[0].append("3")
    assert after == came_to


def test_an_evaluator_that_fails_leaves_two_states() -> None:
    before, after = world(), deepcopy(world())

    def evaluate() -> None:
        with dedupe_equal_parts(before, after):
            assert before.items is after.items
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        evaluate()
    assert before.items is not after.items


def test_evaluators_of_agentdojo_change_nothing_that_they_compare() -> None:
    pytest.importorskip("agentdojo", reason="needs the extra agentdojo")
    from pytest_siren.datasets.agentdojo import AgentDojoConfig, load
    from pytest_siren.environments.agentdojo.environment import AgentDojoState
    from pytest_siren.evaluation.tasks import Evidence

    async def go() -> int:
        judged = 0
        for suite in ("workspace", "banking", "slack", "travel"):
            of = load(AgentDojoConfig(suite_name=suite), Path())
            for task in (*of.benign_tasks, *of.malicious_tasks):
                if task.ground_truth is None:
                    continue
                async with of.environment.open(of.benign_tasks[0], {}) as state:
                    calls = task.ground_truth.calls(state)
                    before = deepcopy(state.env)
                    for call in calls:
                        await of.environment.call(state, call)
                    after, was = deepcopy(state.env), deepcopy(before)
                    for evaluate in task.evaluators.values():
                        pre = AgentDojoState(before, {})
                        output = task.ground_truth.output
                        evaluate(Evidence((), output, calls, pre, state))
                    assert (task.id, before) == (task.id, was)
                    assert (task.id, state.env) == (task.id, after)
                    judged += 1
        return judged

    assert asyncio.run(go()) > 100
