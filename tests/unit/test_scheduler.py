"""What xdist's workers are given."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_siren.distribute.xdist.scheduler import RunScheduling
from pytest_siren.session.recording.shared_folder import Collected


@dataclass(eq=False)
class Node:
    """Stands for an xdist worker: takes note of what it is sent."""

    sent: list[int] = field(default_factory=list)
    shutting_down: bool = False

    def send_runtest_some(self, indexes: list[int]) -> None:
        self.sent += indexes

    def shutdown(self) -> None:
        self.shutting_down = True


@pytest.mark.parametrize("dist", ["load", "loadscope"])
def test_what_is_dropped_is_given_to_nobody(dist: str) -> None:
    ids = [f"eval_{file}.yaml::a:m[x-run{index}]" for file in range(3) for index in range(4)]
    config: Any = SimpleNamespace(getvalue=lambda name: dist)
    scheduling = RunScheduling(config, Collected([(0, 12)], window=2), 1)
    node = Node()
    scheduling.add_node(node)
    scheduling.add_node_collection(node, ids)
    scheduling.schedule()
    begun = list(node.sent)
    assert 0 < len(begun) < 8
    scheduling.drop(ids[index] for index in (0, 5, 6, 8, 9, 10, 11))
    for index in node.sent:
        scheduling.mark_test_complete(node, index)
    left = {*begun, 1, 2, 3, 4, 7}
    assert sorted(node.sent) == sorted(left)
    assert scheduling.tests_finished
    assert node.shutting_down


def test_runs_with_a_record_are_given_to_workers_whatever_is_dropped() -> None:
    ids = [f"eval_x.yaml::a:m[x-run{index}]" for index in range(12)]
    config: Any = SimpleNamespace(getvalue=lambda name: "load")
    collected = Collected([(0, 12)], window=2, recorded=[(5, 7), (9, 10)])
    scheduling = RunScheduling(config, collected, 1)
    node = Node()
    scheduling.add_node(node)
    scheduling.add_node_collection(node, ids)
    scheduling.schedule()
    begun = list(node.sent)
    scheduling.drop([ids[5], ids[8]])
    scheduling.drop_runs()
    for index in node.sent:
        scheduling.mark_test_complete(node, index)
    assert sorted(node.sent) == sorted({*begun, 5, 6, 9})
    assert node.shutting_down
