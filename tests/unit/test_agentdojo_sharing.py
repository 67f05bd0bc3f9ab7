"""What two states have in common becomes the same objects, and nothing else changes."""

from __future__ import annotations

import asyncio
from copy import deepcopy
from pathlib import Path

import pytest
from pydantic import BaseModel

from pytest_siren.environments.agentdojo_sharing import share_equal


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


@pytest.mark.parametrize("containers", [True, False])
def test_both_states_stay_what_they_are(containers: bool) -> None:
    before, after = world(), deepcopy(world())
    after.items[0].tags.append("y")
    after.by_name["c"] = Item(name="c", tags=[])
    after.log.pop()
    was, came_to = deepcopy(before), deepcopy(after)
    share_equal(before, after, containers=containers)
    assert before == was
    assert after == came_to
    assert before.items[1] is after.items[1]
    assert before.items[0] is not after.items[0]
    assert before.by_name["b"] is after.by_name["b"]
    assert before.log is not after.log


def test_containers_stay_apart_unless_they_may_be_shared() -> None:
    before, after = world(), deepcopy(world())
    share_equal(before, after, containers=False)
    assert before.items is not after.items
    assert before.log[0] is not after.log[0]
    assert before.items[0] is after.items[0]
    share_equal(before, after, containers=True)
    assert before.items is after.items
    assert before.log is after.log


def test_evaluators_of_agentdojo_change_nothing_that_they_compare() -> None:
    pytest.importorskip("agentdojo", reason="needs the extra agentdojo")
    from pytest_siren.datasets.agentdojo import AgentDojoConfig, load
    from pytest_siren.environments.agentdojo import AgentDojoState
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
