"""The records, byte for byte: whoever reads them elsewhere must be told of any difference."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_siren.jobs.reading.read import iter_index, load_config, load_execution, load_result
from pytest_siren.jobs.writing.store import JobStore
from tests.unit.jobs_sample import (
    CONFIG,
    COUPLE,
    CREATED,
    JOB_NAME,
    attempt,
    error_attempt,
    messages,
    run,
    unknown_attempt,
)

GOLDEN = Path(__file__).parent / "data"
FOLDER = "user_task_0_injection_task_1"


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    jobs_dir = tmp_path_factory.mktemp("jobs")
    store = JobStore.open(jobs_dir, JOB_NAME, "20260102-030400-5f3a", CONFIG, created_at=CREATED)
    store.record(attempt(run_id="0123abcd"))
    store.record(error_attempt(run_id="4567abcd", info=run(run_index=1)))
    store.record(unknown_attempt(run_id="89ababcd", info=run(run_index=1), number=2))
    return store.path


@pytest.mark.parametrize(
    ("golden", "written"),
    [
        ("golden_config.yaml", "config.yaml"),
        ("golden_index.jsonl", "index.jsonl"),
        ("golden_result.json", f"{FOLDER}/0123abcd/result.json"),
        ("golden_execution.json", f"{FOLDER}/0123abcd/execution.json"),
        ("golden_result_error.json", f"{FOLDER}/4567abcd/result.json"),
    ],
)
def test_a_record_is_the_golden_one_byte_for_byte(job: Path, golden: str, written: str) -> None:
    assert (job / written).read_bytes() == (GOLDEN / golden).read_bytes()


def test_a_job_holds_these_files_and_no_others(job: Path) -> None:
    files = {str(path.relative_to(job)) for path in job.rglob("*") if path.is_file()}
    runs = ("0123abcd", "4567abcd", "89ababcd")
    records = {f"{FOLDER}/{run}/{file}.json" for run in runs for file in ("result", "execution")}
    assert files == {"config.yaml", "index.jsonl", *records}


def test_the_golden_records_can_be_read(tmp_path: Path) -> None:
    for golden, name in (
        ("golden_config.yaml", "config.yaml"),
        ("golden_index.jsonl", "index.jsonl"),
        ("golden_result.json", "result.json"),
        ("golden_execution.json", "execution.json"),
    ):
        (tmp_path / name).write_bytes((GOLDEN / golden).read_bytes())
    assert load_config(tmp_path).job_name == JOB_NAME
    assert [entry.status for entry in iter_index(tmp_path)] == ["scored", "error", "scored"]
    assert load_result(tmp_path).task_id == COUPLE
    assert load_execution(tmp_path).messages == messages()
