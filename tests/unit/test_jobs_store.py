from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_siren.jobs.reading.read import iter_index, load_config, load_execution, load_result
from pytest_siren.jobs.writing.store import JobExistsError, JobStore, RunIds
from pytest_siren.jobs.writing.write import mark
from tests.unit.jobs_sample import CONFIG, CREATED, JOB_NAME, attempt, error_attempt, run

SPAWN = multiprocessing.get_context("spawn")


def config(identity: str) -> dict[str, Any]:
    return {**CONFIG, "identity": identity}


def test_a_job_is_created_with_its_configuration(tmp_path: Path) -> None:
    store = JobStore.open(tmp_path / "deep" / "jobs", JOB_NAME, "s1", CONFIG, created_at=CREATED)
    assert store.path == tmp_path / "deep" / "jobs" / JOB_NAME
    assert store.name == JOB_NAME
    read = load_config(store.path)
    assert (read.job_name, read.session_id, read.identity) == (JOB_NAME, "s1", CONFIG["identity"])
    assert (read.execution_mode, read.n_runs_per_task, read.created_at) == ("attack", 3, CREATED)
    assert read.values["dataset"] == CONFIG["dataset"]
    assert [path.name for path in store.path.iterdir()] == ["config.yaml"]


def test_the_same_session_joins_its_job_and_changes_nothing(tmp_path: Path) -> None:
    first = JobStore.open(tmp_path, "job", "s1", CONFIG, created_at=CREATED)
    before = (first.path / "config.yaml").read_bytes()
    assert JobStore.open(tmp_path, "job", "s1", CONFIG) == first
    assert JobStore.open(tmp_path, "job", "s1", CONFIG, exclusive=True) == first
    assert (first.path / "config.yaml").read_bytes() == before


def test_another_session_gets_the_next_free_name(tmp_path: Path) -> None:
    names = [JobStore.open(tmp_path, "job", session, CONFIG).name for session in "abca"]
    assert names == ["job", "job_2", "job_3", "job"]
    assert load_config(tmp_path / "job_2").job_name == "job_2"
    assert (tmp_path / "job_2" / "config.yaml").read_text("utf-8").startswith("# Job: job_2\n")


def test_two_configurations_of_one_session_with_one_name_are_two_jobs(tmp_path: Path) -> None:
    first = JobStore.open(tmp_path, "job", "s", config("1"), exclusive=True)
    second = JobStore.open(tmp_path, "job", "s", config("2"), exclusive=True)
    assert (first.name, second.name) == ("job", "job_2")
    assert JobStore.open(tmp_path, "job", "s", config("2"), exclusive=True) == second


def test_a_name_of_the_users_that_is_taken_is_an_error(tmp_path: Path) -> None:
    JobStore.open(tmp_path, "mine", "s1", CONFIG, created_at=CREATED)
    with pytest.raises(JobExistsError) as caught:
        JobStore.open(tmp_path, "mine", "s2", CONFIG, exclusive=True)
    assert str(caught.value) == (
        f"job 'mine' already exists in {tmp_path} (created 2026-01-02 03:04:00 UTC): "
        "continue it with --resume mine, or choose another --job-name"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name: [", "invalid YAML"),
        ("a: 1", "no schema_version, so it is not a record of pytest-siren"),
        ("", "not a mapping"),
    ],
)
def test_a_folder_that_is_not_ours_is_left_alone(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "job" / "config.yaml"
    path.parent.mkdir()
    path.write_text(text or "\n", encoding="utf-8")
    assert JobStore.open(tmp_path, "job", "s", CONFIG).name == "job_2"
    with pytest.raises(JobExistsError, match=f"cannot create job 'job': .*{reason}") as caught:
        JobStore.open(tmp_path, "job", "s", CONFIG, exclusive=True)
    assert str(caught.value).endswith("choose another --job-name")
    assert path.read_text(encoding="utf-8") == (text or "\n")


def test_a_file_of_the_jobs_name_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "job").write_text("mine", encoding="utf-8")
    assert JobStore.open(tmp_path, "job", "s", CONFIG).name == "job_2"
    with pytest.raises(JobExistsError, match="is a file; choose another --job-name"):
        JobStore.open(tmp_path, "job", "s", CONFIG, exclusive=True)


def test_a_job_name_cannot_lead_out_of_the_jobs_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"job name '\.\./x' cannot be a folder"):
        JobStore.open(tmp_path / "jobs", "../x", "s", CONFIG)
    assert list(tmp_path.iterdir()) == []


def _open_many(jobs_dir: Path, session: str, process: int, barrier: Any) -> None:
    for number in range(30):
        barrier.wait()
        store = JobStore.open(jobs_dir, f"job{number}", session, CONFIG)
        writing = mark(store.path)
        store.settle([store.put(attempt(run_id=f"{process:04x}{number:04x}"))])
        writing.unlink()
        store.index.merge()


def test_processes_of_one_session_share_a_job_and_other_sessions_get_their_own(
    tmp_path: Path,
) -> None:
    barrier = SPAWN.Barrier(4)
    processes = [
        SPAWN.Process(target=_open_many, args=(tmp_path, session, n, barrier))
        for n, session in enumerate("aabb")
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    for number in range(30):
        jobs = sorted(tmp_path.glob(f"job{number}")) + sorted(tmp_path.glob(f"job{number}_*"))
        assert [job.name for job in jobs] == [f"job{number}", f"job{number}_2"]
        assert {load_config(job).session_id for job in jobs} == {"a", "b"}
        for job in jobs:
            writers = {entry.run_id[:4] for entry in iter_index(job)}
            expected = ["0000", "0001"] if load_config(job).session_id == "a" else ["0002", "0003"]
            assert sorted(writers) == expected


@pytest.mark.parametrize(
    "task_id", ["../../x", "a/b", ":", "", "..", "x" * 300, "🔥👩‍💻", "a\x00b", "/etc", "\\..\\x"]
)
def test_no_task_id_leaves_the_folder_of_the_job(tmp_path: Path, task_id: str) -> None:
    store = JobStore.open(tmp_path / "jobs", "job", "s", CONFIG)
    folder = store.record(attempt(info=run(task_id)))
    assert folder.parent.parent == store.path
    assert {path.name for path in tmp_path.iterdir()} == {"jobs"}
    assert {path.name for path in (tmp_path / "jobs").iterdir()} == {"job"}
    assert load_result(folder).task_id == load_execution(folder).task_id == task_id
    [entry] = iter_index(store.path)
    assert store.path / entry.path == folder


def test_tasks_that_look_alike_have_folders_of_their_own(tmp_path: Path) -> None:
    store = JobStore.open(tmp_path, "job", "s", CONFIG)
    ids = ["a_b", "a b", "a/b"]
    infos = [run(task_id, attack=None) for task_id in ids]
    ids = RunIds()
    folders = {store.record(attempt(run_id=ids(), info=info)).parent for info in infos}
    assert len(folders) == 3


def test_every_attempt_is_kept(tmp_path: Path) -> None:
    store = JobStore.open(tmp_path, "job", "s", CONFIG)
    store.record(error_attempt(run_id="00000001", number=1))
    store.record(attempt(run_id="00000002", number=2))
    entries = list(iter_index(store.path))
    assert [(entry.run_id, entry.attempt, entry.status) for entry in entries] == [
        ("00000001", 1, "error"),
        ("00000002", 2, "scored"),
    ]


def test_a_run_id_is_never_used_twice(tmp_path: Path) -> None:
    store = JobStore.open(tmp_path, "job", "s", CONFIG)
    folder = store.record(attempt())
    before = (folder / "result.json").read_bytes()
    with pytest.raises(FileExistsError, match="0123abcd"):
        store.record(error_attempt())
    assert (folder / "result.json").read_bytes() == before
    assert len(list(iter_index(store.path))) == 1


def test_a_run_id_that_is_a_path_is_refused(tmp_path: Path) -> None:
    store = JobStore.open(tmp_path, "job", "s", CONFIG)
    with pytest.raises(ValueError, match="is not 8 hexadecimal digits"):
        store.record(attempt(run_id="../../.."))


def test_a_job_that_was_deleted_meanwhile_is_not_made_again(tmp_path: Path) -> None:
    store = JobStore.open(tmp_path, "job", "s", CONFIG)
    (store.path / "config.yaml").unlink()
    store.path.rmdir()
    with pytest.raises(FileNotFoundError):
        store.record(attempt())


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of the disk, in order."""
    asked: list[str] = []
    real_open, real_sync, real_replace = os.open, os.fsync, os.replace

    def open_(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        opened = real_open(path, flags, *args, **kwargs)
        if flags & os.O_CREAT:
            of_index = Path(path).parent.name == ".index"
            asked.append("write the index" if of_index else f"write {Path(path).name}")
        return opened

    def sync(descriptor: int) -> None:
        asked.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        real_sync(descriptor)

    def replace(old: Any, new: Any) -> None:
        asked.append(f"name {Path(new).name}")
        real_replace(old, new)

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    return asked


def test_the_result_is_written_after_the_execution_and_before_the_index(
    tmp_path: Path, disk: list[str]
) -> None:
    store = JobStore.open(tmp_path, "job", "s", CONFIG)
    disk.clear()
    store.record(attempt())
    assert disk == [
        "write execution.json",
        "write .result.json.tmp",
        "name result.json",
        "sync result.json",
        "write the index",
    ]


def test_every_file_can_be_made_to_reach_the_disk(tmp_path: Path, disk: list[str]) -> None:
    everything = frozenset({"execution.json", "result.json", "index.jsonl"})
    store = JobStore.open(tmp_path, "job", "s", CONFIG)
    disk.clear()
    JobStore(store.path, sync=everything).record(attempt())
    assert sum(one.startswith("sync") for one in disk) == 3


def test_several_attempts_are_settled_together(tmp_path: Path, disk: list[str]) -> None:
    store = JobStore.open(tmp_path, "job", "s", CONFIG)
    recorded = [store.put(attempt(run_id=f"0000000{number}")) for number in range(3)]
    assert [load_result(one.folder).run_id for one in recorded] == [
        "00000000",
        "00000001",
        "00000002",
    ]
    assert not list(iter_index(store.path))
    disk.clear()
    store.settle(recorded)
    assert disk == ["sync result.json"] * 3 + ["write the index"]
    assert len(list(iter_index(store.path))) == 3


def test_run_ids_differ() -> None:
    ids = RunIds()
    assert len({ids() for _ in range(100)}) == 100


def test_what_the_caller_says_of_mode_and_runs_is_kept(tmp_path: Path) -> None:
    given = {**CONFIG, "execution_mode": "benign", "n_runs_per_task": 7, "session_id": "forged"}
    store = JobStore.open(tmp_path, "job", "s", given)
    read = load_config(store.path)
    assert (read.execution_mode, read.n_runs_per_task, read.session_id) == ("benign", 7, "s")
    text = (store.path / "config.yaml").read_text(encoding="utf-8")
    assert list(yaml.safe_load(text))[-7:] == [
        "job_name",
        "execution_mode",
        "created_at",
        "n_runs_per_task",
        "session_id",
        "identity",
        "schema_version",
    ]
