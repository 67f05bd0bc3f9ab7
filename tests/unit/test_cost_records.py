"""Costs in the records, and in what the controller is told."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic_ai.usage import RunUsage

from pytest_siren.jobs.reading.read import iter_index, load_execution, load_result
from pytest_siren.jobs.records.attempt import result_of
from pytest_siren.jobs.writing.store import JobStore
from pytest_siren.session.items.report import from_properties, report_of, to_properties
from tests.unit.jobs_sample import CONFIG, CREATED, attempt, error_attempt
from tests.unit.test_jobs_records import their_execution, their_index, their_result

PAID = RunUsage(requests=2, input_tokens=642, output_tokens=24, cost=Decimal("0.0123"))


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore.open(tmp_path / "jobs", "job", "session", CONFIG, created_at=CREATED)


@pytest.mark.parametrize("made", [attempt, error_attempt])
@pytest.mark.parametrize(
    ("fields", "cost"),
    [
        ({"usage": PAID}, 0.0123),
        ({"usage": PAID, "unpriced": 1}, None),
        ({"usage": RunUsage(requests=2, input_tokens=9)}, None),
        ({"usage": RunUsage()}, 0.0),
    ],
)
def test_what_an_attempt_cost_is_recorded(
    store: JobStore, made: Any, fields: dict[str, Any], cost: float | None
) -> None:
    given = made(**fields)
    folder = store.record(given)
    assert load_result(folder).cost == cost
    assert [entry.cost for entry in iter_index(store.path)] == [cost]
    assert json.loads((folder / "result.json").read_text())["cost"] == cost
    assert load_execution(folder).usage == given.outcome.usage


def test_prompt_siren_reads_records_with_a_cost(store: JobStore) -> None:
    folder = store.record(attempt(usage=PAID))
    assert their_result(folder).benign_score == 1.0
    assert their_execution(folder).usage.input_tokens == 642
    assert [entry.run_id for entry in their_index(store)] == ["0123abcd"]


def test_records_from_before_there_were_costs_are_read(store: JobStore) -> None:
    folder = store.record(attempt(usage=PAID))
    for path in (folder / "result.json", store.path / "index.jsonl"):
        document = json.loads(path.read_text())
        del document["cost"]
        path.write_text(json.dumps(document))
    assert load_result(folder).cost is None
    assert [entry.cost for entry in iter_index(store.path)] == [None]


@pytest.mark.parametrize("cost", [0.0123, 0.0, None])
def test_the_controller_is_told_the_cost(cost: float | None) -> None:
    usage = RunUsage(requests=1, cost=None if cost is None else Decimal(str(cost)))
    given = attempt(usage=usage)
    properties = json.loads(json.dumps(to_properties(report_of(given.run, result_of(given)))))
    received: Any = SimpleNamespace(
        when="call", user_properties=[tuple(each) for each in properties]
    )
    report = from_properties(received)
    assert report is not None
    assert report.cost == cost
