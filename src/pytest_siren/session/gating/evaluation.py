"""Evaluates gates over the planned runs and the reports of a session."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pytest_siren.metrics.frame import runs_of
from pytest_siren.metrics.gates.baseline import Baseline, GateSettings
from pytest_siren.metrics.gates.evaluate import evaluate
from pytest_siren.metrics.gates.result import GateResult
from pytest_siren.payloads import RunReport
from pytest_siren.session.config.option_groups import chosen_cluster, on_point, unexposed_counts_as
from pytest_siren.session.config.stash import DECIDED
from pytest_siren.session.gating.manifest import RunManifest
from pytest_siren.session.gating.pending_frame import pending_frame
from pytest_siren.spec.gates import Gate


def evaluate_gates(
    config: pytest.Config,
    gates: Sequence[Gate],
    reports: Sequence[RunReport],
    plan: Sequence[RunManifest],
    baseline: Baseline | None,
) -> list[GateResult]:
    """Return the results of ``gates`` over the planned runs and the reports of this session."""
    settings = GateSettings(
        point=on_point(config),
        cluster=chosen_cluster(config),
        baseline=baseline,
        unexposed=unexposed_counts_as(config),
    )
    ended = {(one.identity, one.job, one.task_id, one.run_index) for one in reports}
    decided = config.stash.get(DECIDED, {})
    pending = pending_frame(plan, ended, decided)
    return evaluate(gates, runs_of(reports, decided), pending=pending, settings=settings)
