"""Which xdist worker executes what, when there are runs among the items."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

import pytest

from pytest_siren.session.recording.shared_folder import Collected

_ROUNDS = 2
"""Deaths that a run may share with others before it has to be alone."""


def scope_of(dist: str) -> Callable[[str], str] | None:
    """Return what tells which items must stay together in xdist's mode ``dist``; else ``None``."""
    if dist == "loadscope":
        return lambda nodeid: nodeid.rsplit("::", 1)[0]
    if dist == "loadfile":
        return lambda nodeid: nodeid.split("::", 1)[0]
    if dist == "loadgroup":
        # xdist writes the group's name behind the node id.
        return lambda nodeid: nodeid.rsplit("@", 1)[1] if _grouped(nodeid) else ""
    return None


def _grouped(nodeid: str) -> bool:
    return nodeid.rfind("@") > nodeid.rfind("]")


class RunScheduling:
    """Gives every worker as many items as fill its window, and a few more to go on with at once.

    Keeps to ``--dist``: items of one scope, file or group go to the same worker. When a worker
    dies, its unfinished runs go to the others; runs that were in flight in several deaths are tried
    alone, so that the one that kills is found and the others are not blamed.
    """

    def __init__(self, config: pytest.Config, collected: Collected, numnodes: int) -> None:
        self.config = config
        self.numnodes = numnodes
        self.collection: list[str] | None = None
        self.deaths = 0
        """Workers that died with runs in flight."""
        self._dist = config.getvalue("dist")
        self._collected = collected
        self._collections: dict[Any, list[str]] = {}
        self._assigned: dict[Any, OrderedDict[int, None]] = {}
        self._waiting: deque[list[int]] = deque()
        self._pending: set[int] = set()
        self._reported: set[str] = set()
        self._suspected: Counter[int] = Counter()
        self._alone: dict[Any, int] = {}
        self._dropped: set[str] = set()
        self._recorded = {at for start, stop in collected.recorded for at in range(start, stop)}

    # What xdist's session asks of a scheduler.

    @property
    def nodes(self) -> list[Any]:
        """The workers that are alive."""
        return list(self._assigned)

    @property
    def collection_is_completed(self) -> bool:
        """Whether all workers that the session began with have collected."""
        return len(self._collections) >= self.numnodes

    @property
    def tests_finished(self) -> bool:
        """Whether workers may be told that nothing more will come.

        A worker holds a test that is no run back until it knows what comes next.
        """
        if not self.collection_is_completed or self._waiting:
            return False
        return all(self._may_close(assigned) for assigned in self._assigned.values())

    @property
    def has_pending(self) -> bool:
        """Whether there is anything left to do."""
        return bool(self._waiting) or any(self._assigned.values())

    def add_node(self, node: Any) -> None:
        """A worker has come up."""
        self._assigned[node] = OrderedDict()

    def add_node_collection(self, node: Any, collection: Sequence[str]) -> None:
        """A worker has collected."""
        self._collections[node] = list(collection)

    def schedule(self) -> None:
        """Begin, or let workers that came later take part."""
        if self.collection is None:
            if not self._same_everywhere():
                return
            self.collection = next(iter(self._collections.values()))
            self._pending = set(range(len(self.collection)))
            self._waiting.extend(self._units(self.collection))
        for node in self.nodes:
            self._feed(node)

    def mark_run_reported(self, nodeid: str) -> None:
        """The controller has been told of a run, whether or not its worker lives on."""
        self._reported.add(nodeid)

    def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
        """A worker has finished an item."""
        if self.collection is not None:
            self._reported.discard(self.collection[item_index])
        self._assigned[node].pop(item_index, None)
        self._pending.discard(item_index)
        if self._alone.get(node) == item_index:
            del self._alone[node]
        self._feed(node)

    def mark_test_pending(self, item: str) -> None:
        """Somebody wants ``item`` executed again."""
        assert self.collection is not None
        index = self.collection.index(item)
        self._pending.add(index)
        self._waiting.appendleft([index])
        for node in self.nodes:
            self._feed(node)

    def drop_runs(self) -> None:
        """No worker need be given any further run, but for those with a record."""
        units = ([index for index in unit if not self._executed(index)] for unit in self._waiting)
        self._waiting = deque(unit for unit in list(units) if unit)
        for node in self.nodes:
            self._feed(node)

    def drop(self, nodeids: Iterable[str]) -> None:
        """No worker need be given these runs, unless it has been already or they have a record."""
        self._dropped.update(nodeids)
        for node in self.nodes:
            self._feed(node)

    def remove_pending_tests_from_node(self, node: Any, indices: Sequence[int]) -> NoReturn:
        """Never happens: nothing is ever taken back from a worker."""
        raise NotImplementedError

    def remove_node(self, node: Any) -> str | None:
        """A worker has gone; return the item that killed it if that is certain.

        Its unfinished items go to others.
        """
        if self.collection is None:
            self._collections.pop(node, None)
        left = self._unreported(self._assigned.pop(node))
        alone = self._alone.pop(node, None)
        if not left or self.collection is None:
            return None
        culprit = self._culprit(left, alone)
        if culprit is not None:
            left.remove(culprit)
            self._pending.discard(culprit)
        if left:
            again, others = self._suspects(left)
            self._waiting.extendleft([index] for index in reversed(again))
            if others:
                self._waiting.appendleft(others)
        for other in self.nodes:
            self._feed(other)
        return None if culprit is None else self.collection[culprit]

    # How it decides.

    def _unreported(self, assigned: Iterable[int]) -> list[int]:
        """Return what nobody has been told of: a worker may die after its last report."""
        if self.collection is None:
            return list(assigned)
        left = []
        for index in assigned:
            if self.collection[index] in self._reported:
                self._pending.discard(index)
            else:
                left.append(index)
        return left

    def _culprit(self, left: list[int], alone: int | None) -> int | None:
        if alone is not None:
            return alone
        if not self._is_run(left[0]):
            return left[0]
        self.deaths += 1
        return None

    def _suspects(self, left: list[int]) -> tuple[list[int], list[int]]:
        """Split into the runs that must be alone from now on, and the rest."""
        if self._is_run(left[0]):
            self._suspected.update(left[: self._collected.window])
        again = [index for index in left if self._suspected[index] >= _ROUNDS]
        return again, [index for index in left if self._suspected[index] < _ROUNDS]

    def _feed(self, node: Any) -> None:
        if node.shutting_down or node not in self._collections or self.collection is None:
            return
        assigned = self._assigned[node]
        while self._waiting and node not in self._alone:
            first = self._waiting[0][0]
            alone = self._suspected[first] >= _ROUNDS
            if assigned if alone else len(assigned) >= self._capacity():
                return
            unit = self._needed(self._waiting.popleft())
            if not unit:
                continue
            if alone:
                self._alone[node] = first
            assigned.update(dict.fromkeys(unit))
            node.send_runtest_some(unit)
        if not self._waiting and self._may_close(assigned):
            self._close()

    def _needed(self, unit: list[int]) -> list[int]:
        """Return what of ``unit`` has not been dropped."""
        assert self.collection is not None
        return [
            index
            for index in unit
            if self.collection[index] not in self._dropped or not self._executed(index)
        ]

    def _close(self) -> None:
        if all(self._may_close(assigned) for assigned in self._assigned.values()):
            for node in self.nodes:
                node.shutdown()

    def _may_close(self, assigned: OrderedDict[int, None]) -> bool:
        return not assigned or (len(assigned) == 1 and not self._is_run(next(iter(assigned))))

    def _capacity(self) -> int:
        """Return how many items a worker may have: a full window, and a few behind it.

        Where little is left, the few behind it would wait while another worker has room.
        """
        window = self._collected.window
        spare = max(2, window // 4)
        left = sum(map(len, self._waiting)) if len(self._waiting) < 4 * window else None
        if left is not None and left <= spare * len(self._assigned):
            spare = 0
        return max(2, window + spare)

    def _is_run(self, index: int) -> bool:
        return any(start <= index < stop for start, stop in self._collected.runs)

    def _executed(self, index: int) -> bool:
        """Whether that item is a run that is not reported from its record."""
        return self._is_run(index) and index not in self._recorded

    def _units(self, collection: list[str]) -> list[list[int]]:
        """Return what must stay together, in order."""
        scope = scope_of(self._dist)
        if scope is None:
            return [[index] for index in range(len(collection))]
        units: OrderedDict[object, list[int]] = OrderedDict()
        for index, nodeid in enumerate(collection):
            units.setdefault(scope(nodeid) or index, []).append(index)
        return list(units.values())

    def _same_everywhere(self) -> bool:
        first, *others = self._collections.items()
        for node, collection in others:
            if collection != first[1]:
                message = (
                    f"workers {first[0].gateway.id} and {node.gateway.id} collected different "
                    "items; eval files and what they name must not change while pytest starts"
                )
                report = pytest.CollectReport(node.gateway.id, "failed", message, [])
                self.config.hook.pytest_collectreport(report=report)
                return False
        return True
