"""Disks that are full or read-only, and files of a job that are damaged, foreign or gone."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.command import Command
from tests.acceptance.conftest import Project
from tests.acceptance.slow import eval_file

ATTACKED = ("evals", "--attack=template_string")


@pytest.fixture
def done(project: Project) -> Project:
    """A project whose four couples have been executed."""
    project.run(*ATTACKED)
    return project


def job(project: Project) -> Path:
    [found] = project.jobs()
    return found


def cut_index(project: Project) -> None:
    index = job(project) / "index.jsonl"
    index.write_bytes(index.read_bytes()[:-60])


def empty_result(project: Project) -> None:
    next(job(project).glob("summary_link/*/result.json")).write_bytes(b"")


def foreign_files(project: Project) -> None:
    (job(project) / "notes.txt").write_text("mine")
    (job(project) / "summary_link/thoughts").mkdir()
    result = next(job(project).glob("summary_link/*/result.json"))
    result.write_text('{"some": "other tool"}')


def deleted_folder(project: Project) -> None:
    shutil.rmtree(job(project) / "reply_link")


def deleted_index(project: Project) -> None:
    (job(project) / "index.jsonl").unlink()


DAMAGES = {
    "index cut in a line": (cut_index, r"index.jsonl:4: Invalid JSON", 0),
    "empty result": (empty_result, r"result.json: not valid JSON", 1),
    "foreign files": (foreign_files, r"notes.txt: a file that is no part of a job", 1),
    "folder deleted": (deleted_folder, r"3 attempts; index rebuilt: 0 added, 1 dropped", 1),
    "index deleted": (deleted_index, r"4 attempts; index rebuilt: 4 added, 0 dropped", 0),
}


@pytest.mark.inside
@pytest.mark.filterwarnings("default::pytest.PytestWarning")
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("repaired", [True, False], ids=["repair", "lf-alone"])
def test_damaged_jobs_are_named_and_come_to_completion(
    done: Project, command: Command, damage: str, *, repaired: bool
) -> None:
    spoil, message, lost = DAMAGES[damage]
    spoil(done)
    if repaired:
        found = command("jobs", "repair")
        assert message in found.output
        assert found.code == int("no record" in found.output)
    result = done.run("--lf")
    if repaired:
        result.stdout.no_fnmatch_line("*Warning*")
    elif "rebuilt" not in message:
        # Without a reason to look further, only records that are needed are looked at.
        needed = "result.json: no schema_version" if damage == "foreign files" else message
        assert needed in result.stdout.str()
    recorded = f"recorded: {4 - lost} of 4 runs, not executed again"
    result.stdout.fnmatch_lines(["  tasks 4   runs 4   errors 0", recorded])
    listed = command("jobs", "list")
    assert f"{job(done).name}: complete: 4 of 4 runs scored" in listed.output
    assert listed.code == 0


@pytest.mark.inside
def test_a_foreign_sweep_file_is_named(done: Project) -> None:
    [path] = (done.path / "jobs/.sweeps").iterdir()
    path.write_text("[]")
    result = done.run("--resume", path.stem)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --resume: *{path.name}: not a sweep*"])


@pytest.fixture
def small_disk(project: Project) -> Iterator[Path]:
    """A file system of 256 kB, where jobs are recorded."""
    disk = project.path / "jobs"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small file system")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.inside
@pytest.mark.parametrize(
    "dist",
    [["-p", "no:xdist"], pytest.param(["-n2"], marks=pytest.mark.nightly)],
    ids=["no-xdist", "n2"],
)
def test_a_full_disk_ends_the_session_and_loses_nothing(
    slow: Project, command: Command, small_disk: Path, dist: list[str]
) -> None:
    slow.write("evals/eval_slow.yaml", eval_file({f"t{number:02}": 0 for number in range(60)}))
    result = slow.run(*dist, "evals", "--concurrency=4")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    reason = "cannot be written: No space left on device; no further runs are started"
    result.stdout.fnmatch_lines(["pending: * of 60 runs*", f"*{reason}*"])
    whole = sum(path.stat().st_size > 0 for path in small_disk.glob("*/*/*/result.json"))
    assert 0 < whole < 60
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    assert command("jobs", "repair").code == 0
    again = slow.run(*dist, "--lf")
    assert again.ret == pytest.ExitCode.OK
    again.stdout.fnmatch_lines([f"recorded: {whole} of 60 runs, not executed again"])
    again.stdout.fnmatch_lines(["  tasks 60   runs 60   errors 0"])


@pytest.mark.parametrize(
    "dist", ["no-xdist", pytest.param("-n2", marks=pytest.mark.nightly)], indirect=True
)
def test_a_jobs_folder_that_cannot_be_written_ends_the_session_before_it_begins(
    project: Project, dist: list[str]
) -> None:
    project.args = dist
    project.write("blocked", "a file, where a folder should be")
    result = project.run(*ATTACKED, "--jobs-dir=blocked")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*Interrupted: *blocked*"])
    result.stdout.no_fnmatch_line("*HIJACKED*")
