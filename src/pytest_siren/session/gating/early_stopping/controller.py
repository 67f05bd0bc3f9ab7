"""``--gate-stop`` on the controller: stops the session and reports the runs saved."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pytest_siren.metrics.gates.result import GateResult
from pytest_siren.metrics.rates.measures import PassAtKTracker, tracker_for
from pytest_siren.metrics.sequential import sequential_result
from pytest_siren.payloads import RunReport
from pytest_siren.session.config.processes import executor_of
from pytest_siren.session.config.stash import NOT_NEEDED
from pytest_siren.session.gating.early_stopping.sequential_gates import (
    SequentialGates,
    make_sequential_gates,
)
from pytest_siren.session.gating.evaluation import Level, evaluate_gates
from pytest_siren.session.gating.manifest import RunManifest, file_gates, read_manifests
from pytest_siren.spec.gates import Gate
from pytest_siren.text.words import printable


class EarlyStoppingController:
    """Evaluates gates while runs end, and starts no further run once every gate is decided."""

    def __init__(self, session: pytest.Session, gates: Sequence[Gate]) -> None:
        self._session = session
        self._config = session.config
        self._gates = gates
        self._begun = False
        self._why_not = ""
        self._not_early = False
        self._stopped = False
        self.tracker: PassAtKTracker | None = None
        """Tracks decided tasks; ``None`` if none may end early."""
        self.sequential: SequentialGates | None = None
        """Evaluates the gates sequentially; ``None`` if only all runs can decide them."""

    def report(self, report: RunReport) -> None:
        """Count the report of a run."""
        if not self._begun:
            self._begin()
        if self.tracker is not None and self.tracker.add(report.identity, report.task_id, report):
            self._decide(report)
        if self.sequential is None:
            return
        self.sequential.report(report)
        if self.sequential.settled and not self._stopped:
            self._stopped = True
            executor_of(self._config).settle()

    def results(
        self, reports: Sequence[RunReport], plan: Sequence[RunManifest]
    ) -> list[GateResult]:
        """Return the results of the gates, and record how many runs were not needed."""
        assert self.sequential is not None
        if self.sequential.settled:
            self._config.stash[NOT_NEEDED] = self.sequential.planned - _runs(reports)
        return sequential_results(self._config, self.sequential, reports, plan)

    def saved(self, reported: int) -> list[str]:
        """Return how many runs were not needed, or why nothing could be stopped early."""
        if not self._begun:
            return []
        if self.sequential is None:
            if self.tracker is not None or self._not_early:
                return []  # the summary reports decided tasks
            return [f"--gate-stop: nothing was stopped early: {printable(self._why_not, 200)}"]
        total = f"{self.sequential.planned:,} runs"
        if not self.sequential.settled:
            return [f"--gate-stop: not settled by the {reported:,} of {total}"]
        left = self._config.stash[NOT_NEEDED]
        return [f"settled after {self.sequential.used:,} of {total}; {left:,} not needed"]

    @property
    def settled(self) -> bool:
        """Whether every gate is decided, so that no further run is needed."""
        return self.sequential is not None and self.sequential.settled

    def _decide(self, report: RunReport) -> None:
        """If the task of ``report`` is decided, assign no further run of it except the first.

        Each executing process also skips them itself (``session/execution/run_loop.py``).
        """
        assert self.tracker is not None
        stem = report.nodeid.removesuffix(f"{report.run_index}]")
        if stem != report.nodeid:
            runs = self.tracker.jobs[report.identity][0].k
            executor_of(self._config).drop(f"{stem}{run_index}]" for run_index in range(1, runs))

    def _begin(self) -> None:
        self._begun = True
        for one in read_manifests(self._session):
            if one.early:
                self.tracker = tracker_for(one.early)
            self._not_early = self._not_early or bool(one.not_early)
            gates = [*self._gates, *file_gates([one])]
            found = make_sequential_gates(self._config, gates, one)
            if isinstance(found, str):
                self._why_not = found
            else:
                self.sequential = found


def _runs(reports: Sequence[RunReport]) -> int:
    return len({(one.identity, one.task_id, one.run_index) for one in reports})


def sequential_results(
    config: pytest.Config,
    sequential: SequentialGates,
    reports: Sequence[RunReport],
    plan: Sequence[RunManifest],
) -> list[GateResult]:
    """Return the results of the gates of ``sequential`` by their confidence sequences."""
    left = [] if sequential.settled else plan
    gates = [one.gate for one in sequential.gates]
    # Over all runs, the interval has the half of the error that looks at batches have left.
    halves = [one.alpha / 2.0 for one in sequential.gates if one.crossed is not None]
    stricter = Level(1.0 - halves[0]) if halves else Level()
    found = evaluate_gates(config, gates, reports, left, None, stricter)
    return [sequential_result(*both) for both in zip(sequential.gates, found, strict=True)]
