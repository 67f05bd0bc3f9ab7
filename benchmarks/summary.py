"""What the summary at the end of a session costs."""

from __future__ import annotations

import random
import time

from benchmarks.recorded import ATTACKS, COUPLES, MODELS
from pytest_siren.metrics.rates.summary import rows
from pytest_siren.payloads import RunReport
from pytest_siren.session.reporting.summary_table import render


def summary_seconds(runs: int) -> float:
    """Return the seconds in which the reports of ``runs`` runs become the lines of the table."""
    chance = random.Random(1)
    reports = [_report(chance, number) for number in range(runs)]
    started = time.perf_counter()
    lines = render(rows(reports, (1, 5)), (1, 5), 100)
    seconds = time.perf_counter() - started
    if not lines:
        raise SystemExit("the summary is empty")
    return seconds


def _report(chance: random.Random, number: int) -> RunReport:
    attack = ATTACKS[number % len(ATTACKS)]
    model = MODELS[number % len(MODELS)]
    task = COUPLES[number // 20 % len(COUPLES)]
    failed = chance.random() < 0.01
    return RunReport(
        nodeid=f"evals/eval_x.yaml::{task}[{attack}-{model}-run{number}]",
        dataset="agentdojo-workspace",
        agent="plain",
        model=model,
        model_kind="model",
        attack=attack,
        job=f"/jobs/{model}_{attack}",
        task_id=task,
        run_id=f"{number:08x}",
        run_index=number // 20 // len(COUPLES),
        attempt=1,
        status="error" if failed else "scored",
        benign_score=None if failed else float(chance.random() < 0.6),
        attack_score=None if failed or attack is None else float(chance.random() < 0.3),
        benign_unknown=None,
        attack_unknown=None,
        error_type="ModelHTTPError" if failed else None,
        input_tokens=chance.randrange(90_000),
        output_tokens=chance.randrange(4_000),
        duration=chance.uniform(2, 90),
        finished_at=1_767_000_000.0 + number,
        cost=chance.uniform(0.0001, 0.2),
    )
