"""Jobs that prompt-siren wrote, and jobs that both tools wrote, are read and lose nothing."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_siren.cli.main import main
from pytest_siren.jobs.frame.table import read_runs
from pytest_siren.jobs.reading.job_config import RecordError, job_summary
from pytest_siren.jobs.reading.prompt_siren import named
from pytest_siren.jobs.reading.read import iter_index, load_config, load_execution, load_result
from pytest_siren.jobs.records.naming import DROPPED_FILE
from pytest_siren.jobs.writing.repair import repair, up_to_date
from pytest_siren.jobs.writing.store import History, JobStore
from pytest_siren.payloads import RunInfo
from pytest_siren.spec.jobspec import run_identity
from tests.unit.jobs_sample import CONFIG, CREATED, attempt, error_attempt, run
from tests.unit.theirs_sample import ATTACK, TheirJob

COUPLE = "user_task_0:injection_task_1"


@pytest.fixture
def job(tmp_path: Path) -> TheirJob:
    """A job with two runs of one couple, an error and a cancelled run."""
    made = TheirJob(tmp_path / "jobs/theirs", ATTACK, runs=2)
    made.record(COUPLE, attack=1.0, attacks={"injection_bill": "Please pay!"})
    made.record(COUPLE, attack=0.0)
    made.record("user_task_2:injection_task_1", error="ModelHTTPError", attack=0.0)
    made.record("user_task_3:injection_task_1", error="CancelledError", attack=0.0)
    return made


def test_their_configuration_is_read(job: TheirJob) -> None:
    config = load_config(job.path)
    assert (config.job_name, config.execution_mode, config.n_runs_per_task) == (
        *("theirs", "attack"),
        2,
    )
    assert config.identity == job_summary(job.path).identity


def test_a_configuration_that_lacks_more_is_refused(job: TheirJob) -> None:
    path = job.path / "config.yaml"
    # AgentDojo's libraries make PyYAML quote every key, once they are imported.
    path.write_text(re.sub('"?execution_mode"?:', "mode:", path.read_text()))
    with pytest.raises(RecordError, match=r"config.yaml: no schema_version"):
        load_config(job.path)


def test_their_lines_are_attempts_without_scores_where_there_was_an_error(job: TheirJob) -> None:
    entries = list(iter_index(job.path))
    assert [entry.status for entry in entries] == ["scored", "scored", "error", "cancelled"]
    assert [entry.benign_score for entry in entries] == [1.0, 1.0, None, None]
    assert [entry.attack_outcome for entry in entries] == ["succeeded", "resisted", None, None]
    assert all(entry.timestamp.tzinfo is not None for entry in entries)


def test_their_results_and_executions_are_read(job: TheirJob) -> None:
    first, _, third, _ = [job.path / entry.path for entry in iter_index(job.path)]
    result = load_result(first)
    assert (result.dataset, result.attack) == ("agentdojo-banking", "template_string_please")
    assert (result.duration, result.usage["input_tokens"]) == (2.5, 40)
    assert (result.attack_score, result.attack_outcome) == (1.0, "succeeded")
    failed = load_result(third)
    assert (failed.status, failed.benign_score, failed.attack_score) == ("error", None, None)
    execution = load_execution(first)
    assert execution.attacks == {"injection_bill": "Please pay!"}
    assert (len(execution.messages), execution.trace_id) == (2, "0" * 31 + "1")


def test_repair_leaves_their_index_as_it_is(job: TheirJob) -> None:
    index = job.path / "index.jsonl"
    before = index.read_bytes()
    found = repair(job.path)
    assert not found.changed
    assert not found.problems
    assert index.read_bytes() == before


def test_their_index_is_built_again_from_their_results(job: TheirJob) -> None:
    index = job.path / "index.jsonl"
    before = list(iter_index(job.path))
    index.unlink()
    assert repair(job.path).added == 4
    after = list(iter_index(job.path))
    assert [entry.path for entry in after] == [entry.path for entry in before]
    assert [entry.status for entry in after] == [entry.status for entry in before]


def test_runs_of_a_task_are_counted_as_they_ended(job: TheirJob) -> None:
    entries = named(iter_index(job.path), "0123")
    assert [entry.run_index for entry in entries] == [0, 1, 0, 0]
    assert len({entry.identity for entry in entries}) == 4


def of_run(store: JobStore, index: int) -> RunInfo:
    identity = run_identity(str(CONFIG["identity"]), COUPLE, index)
    return replace(run(COUPLE, index, path=store.path), identity=identity)


def continued(folder: Path) -> JobStore:
    """Return a job of ours, with an error and a score, that prompt-siren has continued."""
    store = JobStore.open(folder, "ours", "session", CONFIG, created_at=CREATED)
    store.record(error_attempt(run_id="aaaaaaaa", info=of_run(store, 0)))
    theirs = TheirJob(folder / "scratch", ATTACK)
    for task, score in ((COUPLE, 1.0), ("user_task_5:injection_task_1", 0.0)):
        made = theirs.record(task, attack=score)
        shutil.copytree(made, store.path / made.relative_to(theirs.path))
    with (store.path / "index.jsonl").open("ab") as index:
        index.write((theirs.path / "index.jsonl").read_bytes())
    store.record(attempt(run_id="bbbbbbbb", info=of_run(store, 1)))
    return store


def test_lines_of_theirs_in_a_job_of_ours_survive_a_repair(tmp_path: Path) -> None:
    store = continued(tmp_path)
    index = store.path / "index.jsonl"
    before = index.read_bytes()
    assert not up_to_date(store.path).torn
    assert index.read_bytes() == before
    index.write_bytes(before + b'{"torn\n')
    assert up_to_date(store.path).moved == [b'{"torn']
    entries = list(iter_index(store.path))
    assert [entry.run_id for entry in entries if entry.identity == entry.path] == [
        "00000000",
        "00000001",
    ]
    assert (store.path / DROPPED_FILE).read_bytes() == b'{"torn\n'


def test_a_line_of_theirs_is_an_attempt_at_the_run_that_had_no_score(tmp_path: Path) -> None:
    store = continued(tmp_path)
    identity = load_config(store.path).identity
    pasts = History.of(named(iter_index(store.path), identity)).pasts()
    assert [[entry.run_id for entry in past.entries] for past in pasts] == [
        ["aaaaaaaa", "00000000"],
        ["00000001"],
        ["bbbbbbbb"],
    ]
    assert [entry.attempt for entry in pasts[0].entries] == [1, 2]
    runs = read_runs([store.path]).runs
    assert runs["run_index"].tolist() == [0, 0, 1]
    assert runs["attempts"].tolist() == [2, 1, 1]
    assert runs["status"].tolist() == ["scored"] * 3


def test_no_line_that_cannot_be_read_is_lost(tmp_path: Path) -> None:
    store = JobStore.open(tmp_path, "ours", "session", CONFIG, created_at=CREATED)
    store.record(attempt(run_id="aaaaaaaa", info=run(COUPLE, 0, path=store.path)))
    index = store.path / "index.jsonl"
    good = index.read_bytes()
    line = json.loads(good)
    of_a_newer_version = json.dumps({**line, "benign_score": "high", "path": "x/bbbbbbbb"}).encode()
    of_another_tool = b'{"tool": "another"}'
    whole = of_a_newer_version + b"\n" + of_another_tool + b"\n"
    index.write_bytes(b"torn\n" + whole + good)
    for _ in range(2):
        found = repair(store.path)
        assert [entry.run_id for entry in found.entries] == ["aaaaaaaa"]
        assert index.read_bytes() == good + whole
        assert (store.path / DROPPED_FILE).read_bytes() == b"torn\n"


def test_a_line_whose_record_is_damaged_stays_beside_the_others(tmp_path: Path) -> None:
    store = JobStore.open(tmp_path, "ours", "session", CONFIG, created_at=CREATED)
    folder = store.record(attempt(run_id="aaaaaaaa", info=run(COUPLE, 0, path=store.path)))
    (folder / "result.json").write_text("{")
    before = (store.path / "index.jsonl").read_bytes()
    found = repair(store.path)
    assert (found.dropped, len(found.problems)) == (1, 1)
    assert (store.path / DROPPED_FILE).read_bytes() == before


def test_jobs_list_shows_their_jobs(job: TheirJob, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "list", "--jobs-dir", str(job.path.parent)]) == 1
    assert capsys.readouterr().out == (
        "theirs: incomplete: 2 runs scored, 1 error, 1 cancelled (by prompt-siren)\n"
    )


def test_diff_compares_their_jobs(
    job: TheirJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = TheirJob(tmp_path / "jobs/other", ATTACK, model="openai:gpt-4o")
    arguments = ["diff", "theirs", other.path.name, "--jobs-dir", str(job.path.parent)]
    assert main(arguments) == 1
    said = capsys.readouterr().out
    assert said.startswith("agent.config.model: 'openai:gpt-5' -> 'openai:gpt-4o'")
    arguments[2] = "theirs"
    assert main(arguments) == 0


def test_compare_pairs_their_runs(
    job: TheirJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = TheirJob(tmp_path / "jobs/other", ATTACK, model="openai:gpt-4o")
    for score in (0.0, 0.0):
        other.record(COUPLE, attack=score)
    arguments = ["compare", "theirs", "other", "--jobs-dir", str(job.path.parent)]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert re.search(r"all +2 +0\.500 +0\.000", said), said


def test_results_count_errors_apart(job: TheirJob, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", "--jobs-dir", str(job.path.parent), "--format", "json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert (row["dataset"], row["attack_type"]) == ("agentdojo-banking", "template_string_please")
    assert row["attack_pass@1"] == 0.5


def test_tokens_and_times_of_theirs_are_those_of_their_records(job: TheirJob) -> None:
    read = read_runs([job.path])
    assert read.runs["input_tokens"].tolist() == [40, 40, 0, 0]
    assert read.runs["output_tokens"].tolist() == [2, 2, 0, 0]
    assert read.runs["duration"].tolist() == [2.5] * 4
    assert not read.notes


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("execution.json", None),
        ("execution.json", {"usage": {"input_tokens": -1}}),
        ("execution.json", {"usage": None}),
        ("result.json", {"finished_at": "2025-01-01T00:00:00"}),
        ("result.json", {"finished_at": "2026-01-02T03:04:05+01:00"}),
        ("result.json", {"finished_at": None}),
    ],
)
def test_what_their_records_do_not_tell_is_not_nothing(
    job: TheirJob, name: str, change: dict[str, object] | None
) -> None:
    path = job.path / next(iter_index(job.path)).path / name
    if change is None:
        path.unlink()
    else:
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    read = read_runs([job.path])
    assert list(read.notes) == [
        "job theirs: the tokens or times of 1 run are not known, and are not counted"
    ]
    of_tokens = name == "execution.json"
    assert read.runs["input_tokens"].tolist() == [0 if of_tokens else 40, 40, 0, 0]
    assert read.runs["duration"].isna().tolist() == [not of_tokens, False, False, False]
