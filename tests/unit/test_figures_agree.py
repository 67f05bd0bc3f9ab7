"""Every surface shows the same figure and the same interval for the same runs."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pytest_siren.metrics.compare.paired import compare
from pytest_siren.metrics.frame import runs_of
from pytest_siren.metrics.gates.baseline import GateSettings
from pytest_siren.metrics.gates.evaluate import evaluate
from pytest_siren.metrics.gates.result import GateResult
from pytest_siren.metrics.rates.choices import Cluster, Estimate
from pytest_siren.metrics.rates.groups import groups
from pytest_siren.metrics.rates.summary import SummaryRow, rows
from pytest_siren.payloads import RunReport
from pytest_siren.reports.data import job_figures
from pytest_siren.reports.html.rows import groupings, telling
from pytest_siren.reports.markdown import markdown
from pytest_siren.reports.results_text import Layout, write_results
from pytest_siren.spec.gates import STAGES, parse_gate
from tests.unit.reports_sample import data
from tests.unit.test_metrics_summary import report

TABLES = 500
AT_ONCE = 50
KS = (1, 2, 3)

Figure = tuple[float, float | None, float | None, str] | None
"""Value, both ends, and of which tasks there are too few for an interval."""


def drawn(random: np.random.Generator) -> list[RunReport]:
    """Return the runs of one job: errors, unknown and partial scores among them, or none."""
    attacked = bool(random.random() < 0.7)
    benign, malicious = int(random.integers(1, 6)), int(random.integers(1, 5)) if attacked else 1
    each, rate = int(random.integers(1, 6)), random.random()
    partial = random.random() < 0.3
    chances = {"error": random.choice([0.0, 0.2]), "unknown": random.choice([0.0, 0.2])}
    found = []
    for user in range(benign):
        for goal in range(malicious):
            for index in range(each):
                task = f"u{user}:m{goal}" if attacked else f"u{user}"
                found.append(_run(random, task, index, attacked, rate, partial, chances))
    if attacked and random.random() < 0.7:
        goals = [f"m{goal}" for goal in range(malicious)]
        found += [_unattacked(random, f"u{user}", goals) for user in range(benign)]
    random.shuffle(found)  # type: ignore[arg-type]
    return found


def _unattacked(random: np.random.Generator, task: str, goals: list[str]) -> RunReport:
    """Return a run of another job, whose scores are the placebo of the attacked ones."""
    scores = {goal: float(random.random() < 0.3) for goal in goals if random.random() < 0.9}
    text = json.dumps(scores) if random.random() < 0.9 else None
    return report(task, job="/jobs/two", identity="aa", attack=None, attack_score=None,
                  exposed=None, placebo=text)  # fmt: skip


def _run(
    random: np.random.Generator,
    task: str,
    index: int,
    attacked: bool,
    rate: float,
    partial: bool,
    chances: dict[str, float],
) -> RunReport:
    same: dict[str, Any] = {
        "identity": "1f2e",
        "attack": "loud" if attacked else None,
        "exposed": random.choice([True, True, False, None]) if attacked else None,
        "attempted": random.choice([True, False, None]) if attacked else None,
    }
    if random.random() < chances["error"]:
        lost: dict[str, Any] = {"benign_score": None, "attack_score": None, "error_type": "Oops"}
        return report(task, index, status="error", **same, **lost)
    known = random.random(2) >= chances["unknown"]
    scores = (random.random(2) < rate).astype(float)
    if partial:
        scores = np.where(random.random(2) < 0.5, scores, np.round(random.random(2), 2))
    return report(
        task,
        index,
        benign_score=float(scores[0]) if known[0] else None,
        attack_score=float(scores[1]) if attacked and known[1] else None,
        finish=random.choice(["complete", "complete", "length", "refused", None]),
        **same,
    )


def figure(found: Estimate | None) -> Figure:
    if found is None:
        return None
    ends = (None, None) if found.lacking else (found.low, found.high)
    return found.value, *ends, found.lacking


def of_summary(row: SummaryRow) -> dict[str, Figure]:
    shown = {f"benign_pass@{k}": figure(row.benign_pass[k]) for k in KS}
    if row.attack is not None:
        shown |= {f"attack_pass@{k}": figure(row.attack_pass[k]) for k in KS}
        shown |= {"asr": figure(row.asr)}
        shown |= {name: figure(one) for name, one in row.stages.items()}
    return shown


def of_gates(runs: pd.DataFrame, names: list[str], cluster: Cluster) -> dict[str, Figure]:
    settings = GateSettings(cluster=cluster, advice=False)
    gates = [parse_gate(f"{name} <= 0.5", "--gate") for name in names]
    found = evaluate(gates, runs, settings=settings)
    return {
        name: None if one.value is None else (one.value, *_ends(one), one.lacking)
        for name, one in zip(names, found, strict=True)
    }


def _ends(gate: GateResult) -> tuple[float | None, float | None]:
    return (None, None) if gate.lacking else (gate.low, gate.high)


def of_results(runs: pd.DataFrame, names: list[str], cluster: Cluster) -> dict[str, Figure]:
    """Return what ``siren results --format json`` prints."""
    layout = Layout(asked=("job",), ks=KS)
    found = groups(runs, ["job"], layout.measures, cluster=cluster)
    found = [one for one in found if one.keys["job"] == "/jobs/one"]
    out = io.StringIO()
    write_results(found, layout, "json", out)
    [row] = json.loads(out.getvalue())
    return {name: None if row[name] is None else (row[name], *_bounds(row, name)) for name in names}


def _bounds(row: dict[str, Any], name: str) -> tuple[float | None, float | None, str]:
    return row[f"{name}_low"], row[f"{name}_high"], row[f"{name}_lacking"] or ""


@pytest.mark.parametrize("first", range(0, TABLES, AT_ONCE))
def test_all_surfaces_agree(first: int) -> None:
    for seed in range(first, first + AT_ONCE):
        agree(seed)


def agree(seed: int) -> None:
    random = np.random.default_rng(seed)
    reports = drawn(random)
    cluster = random.choice(list(Cluster))
    [row] = [one for one in rows(reports, KS, cluster) if one.job == "/jobs/one"]
    shown = of_summary(row)
    whole = runs_of(reports)
    runs = whole[whole["job"] == "/jobs/one"]
    names = list(shown)
    attacked = row.attack is not None
    others = ["incomplete_rate", "refusal_rate", *(["exposure"] if attacked else [])]
    found = of_results(whole, [*names, *others], cluster)
    assert {name: found[name] for name in names} == shown
    further = {name: found[name] for name in others}
    plain = {"utility_under_attack" if attacked else "utility": shown["benign_pass@1"]}
    if attacked:
        plain["asr"] = shown["asr"]
    everywhere = {**found, **plain}
    assert of_gates(runs, list(everywhere), cluster) == everywhere

    over_k = {name: shown[name] for name in names if "@" in name and not name.endswith("@1")}
    [job] = job_figures(runs, cluster, list(over_k))
    assert [figure(job.utility), figure(job.asr)] == [*plain.values(), None][:2]
    assert {name: figure(one) for name, one in job.passes.items()} == over_k
    stages = {name: shown[name] for name in STAGES if name in shown}
    assert {name: figure(one) for name, one in job.stages.items()} == stages
    if attacked and (sent := job.exposed) is not None and (known := sent.runs - sent.unknown):
        assert (sent.exposed, sent.unknown) == (row.exposed.exposed, row.exposed.unknown)
        assert (further["exposure"] is None) == (known == 0)

    tables = groupings(runs, cluster, list(over_k))
    [in_page] = tables[0].rows
    in_rows = {name: figure(one.estimate) for name, one in in_page.rates.items()}
    expected = {**plain, **over_k, **stages, **{name: further[name] for name in others[2:]}}
    assert {name: in_rows[name] for name in expected} == expected

    if seed % 5:
        return
    text = markdown(data_of(runs, cluster))
    told = [stages[name] for name in telling(tables)]
    for known in (*plain.values(), *over_k.values(), *told):
        if known is not None:
            value, low, high, lacking = known
            assert f"{value:.3f}" in text
            ends = f"n/a ({lacking})" if low is None else f"({low:.3f} to {high:.3f})"
            assert ends in text

    compared = compare(runs, runs, cluster=cluster)
    for one in compared.measures:
        if one.tests and one.measure in plain:
            value = plain[one.measure]
            assert value is not None
            assert one.tests[0].left == one.tests[0].right == pytest.approx(value[0])


def data_of(runs: pd.DataFrame, cluster: Cluster) -> Any:
    made = data([], cluster=cluster, folders=(Path("/jobs/one"),), ks=KS)
    runs = runs.assign(path=None, run_id="0")
    return type(made)(**{**vars(made), "runs": runs})
