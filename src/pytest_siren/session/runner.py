"""Executes runs in this process and hands their outcomes to the hooks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from pytest_siren.evaluation.components import Registry
from pytest_siren.evaluation.models import HoldsResources
from pytest_siren.evaluation.run import RunOutcome, Status, execute
from pytest_siren.hookspecs import RunAttempt, RunInfo
from pytest_siren.jobs.store import new_run_id
from pytest_siren.session.job import Workshop
from pytest_siren.session.outcome import RunErrorError, RunFailedError, report_of, to_properties
from pytest_siren.session.recorder import JsonRecorder
from pytest_siren.session.verdict import describe, judge
from pytest_siren.spec.identity import run_identity

if TYPE_CHECKING:
    from pytest_siren.session.items import RunItem


@dataclass(eq=False)
class Evaluations:
    """The evaluations of this process: their parts, their event loop and their records."""

    config: pytest.Config
    workshop: Workshop
    recorder: JsonRecorder
    # A loop factory keeps the runner from setting the thread's event loop, which is the tests' own.
    _runner: asyncio.Runner = field(
        default_factory=lambda: asyncio.Runner(loop_factory=asyncio.new_event_loop)
    )

    def run(self, item: RunItem) -> None:
        """Execute the run of ``item``, record it, and raise what makes the item fail or stop."""
        plan = item.job.plan(item.benign, item.malicious, item.run_index)
        task = plan.context.task_id
        run = RunInfo(
            nodeid=item.nodeid,
            job=self.recorder.job(item.job),
            task_id=task,
            run_index=item.run_index,
            identity=run_identity(item.job.identity, task, item.run_index),
        )
        hook = item.ihook
        hook.pytest_siren_run_start(run=run)
        outcome = self._runner.run(execute(plan))
        attempt = RunAttempt(
            run=run,
            run_id=new_run_id(),
            attempt=1,
            outcome=outcome,
            passed=judge(item.job.spec.pass_when, outcome, attacked=item.malicious is not None),
        )
        hook.pytest_siren_attempt_record(attempt=attempt)
        item.user_properties += to_properties(report_of(attempt))
        _conclude(item, attempt, outcome)

    def close(self) -> None:
        """Free the models and the event loop."""
        for model in self.workshop.models():
            if isinstance(model, HoldsResources):
                self._runner.run(model.aclose())
        self._runner.close()

    def pytest_sessionfinish(self) -> None:
        self.close()


EVALUATIONS = pytest.StashKey[Evaluations]()


def start(config: pytest.Config) -> Evaluations:
    """Return this process's evaluations, made when the first eval file is seen."""
    if EVALUATIONS not in config.stash:
        registry = Registry()
        config.hook.pytest_siren_components_register.call_historic(kwargs={"registry": registry})
        recorder = JsonRecorder(config)
        evaluations = Evaluations(config, Workshop(registry), recorder)
        config.stash[EVALUATIONS] = evaluations
        config.pluginmanager.register(recorder, "siren-json-recorder")
        config.pluginmanager.register(evaluations, "siren-evaluations")
    return config.stash[EVALUATIONS]


def _conclude(item: RunItem, attempt: RunAttempt, outcome: RunOutcome) -> None:
    if outcome.status is Status.CANCELLED:
        raise KeyboardInterrupt
    if attempt.passed:
        return
    message = describe(item, attempt)
    if outcome.status is Status.ERROR:
        raise RunErrorError(message)
    if attempt.passed is None:
        pytest.skip(message)
    raise RunFailedError(message)
