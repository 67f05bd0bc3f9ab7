"""One store is called from several threads at a time."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from pytest_siren.jobs.records.naming import INDEX_FILE, RESULT_FILE
from pytest_siren.jobs.writing.store import JobStore
from tests.unit import jobs_sample as sample

RUNS = 200


def test_attempts_that_are_recorded_at_once_are_all_there(tmp_path: Path) -> None:
    store = JobStore.open(tmp_path, "job", "session", {"identity": "x"})
    attempts = [
        replace(sample.attempt(), run_id=f"{number:08x}", attempt=number + 1)
        for number in range(RUNS)
    ]
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(store.record, attempts))
    lines = [json.loads(line) for line in (store.path / INDEX_FILE).read_text().splitlines()]
    assert {line["run_id"] for line in lines} == {attempt.run_id for attempt in attempts}
    assert len(lines) == RUNS
    for folder, attempt in zip(folders, attempts, strict=True):
        result = json.loads((folder / RESULT_FILE).read_text())
        assert (result["run_id"], result["attempt"]) == (attempt.run_id, attempt.attempt)
        assert not list(folder.glob(".*"))
