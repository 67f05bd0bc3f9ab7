"""Brings together what gates are judged by: what was planned, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pytest_siren.metrics.frame import runs_of
from pytest_siren.metrics.gates.baseline import Baseline
from pytest_siren.metrics.gates.evaluate import GateSettings, evaluate
from pytest_siren.metrics.gates.result import GateResult
from pytest_siren.metrics.sequential import sequential_result
from pytest_siren.payloads import RunReport
from pytest_siren.session.config.figure_options import chosen_cluster, on_point, unexposed_counts_as
from pytest_siren.session.config.stash import DECIDED
from pytest_siren.session.execution.gc_tuning import no_collections
from pytest_siren.session.gating.early_stopping.sequential_gates import Stopper
from pytest_siren.session.gating.manifest import Planned
from pytest_siren.session.gating.pending_frame import plan_table
from pytest_siren.spec.gates import Gate


def judge(
    config: pytest.Config,
    gates: Sequence[Gate],
    reports: Sequence[RunReport],
    plan: Sequence[Planned],
    baseline: Baseline | None,
) -> list[GateResult]:
    """Return what came of ``gates``, given what was planned and the reports of this session."""
    settings = GateSettings(
        point=on_point(config),
        cluster=chosen_cluster(config),
        baseline=baseline,
        unexposed=unexposed_counts_as(config),
    )
    with no_collections():
        ended = {(one.identity, one.job, one.task_id, one.run_index) for one in reports}
        decided = config.stash.get(DECIDED, {})
        pending = plan_table(plan, ended, decided)
        return evaluate(gates, runs_of(reports, decided), pending=pending, settings=settings)


def judge_settled(
    config: pytest.Config,
    stopper: Stopper,
    reports: Sequence[RunReport],
    plan: Sequence[Planned],
) -> list[GateResult]:
    """Return what came of the gates of ``stopper``, by the sequences that stopped the session."""
    left = [] if stopper.settled else plan
    found = judge(config, [one.gate for one in stopper.gates], reports, left, None)
    return [sequential_result(*both) for both in zip(stopper.gates, found, strict=True)]
