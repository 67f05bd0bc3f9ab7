"""Folders that cannot be made are one error that names path and reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_siren.jobs.writing.store import JobStore
from pytest_siren.jobs.writing.write import FolderError, make_folder
from tests.unit.jobs_sample import CONFIG


def dangling(path: Path) -> str:
    path.symlink_to("/nonexistent/dir")
    return f"{path} is a link to /nonexistent/dir, which is no folder"


def circle(path: Path) -> str:
    path.symlink_to(path)
    return f"{path} is a link to {path}, which is no folder"


def file(path: Path) -> str:
    path.write_text("in the way")
    return f"{path} is a file"


def pipe(path: Path) -> str:
    os.mkfifo(path)
    return f"{path} is a file"


OBSTACLES = [dangling, circle, file, pipe]


@pytest.mark.parametrize("below", ["", "deep/er"])
@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_what_is_in_the_way_of_jobs_is_named(obstacle: object, below: str, tmp_path: Path) -> None:
    reason = obstacle(tmp_path / "jobs")  # type: ignore[operator]
    with pytest.raises(FolderError) as caught:
        JobStore.open(tmp_path / "jobs" / below, "job", "s", CONFIG)
    folder = tmp_path / "jobs" / below
    assert str(caught.value) == f"the folder {folder} cannot be used: {reason}"


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_what_is_in_the_way_of_one_job_gives_it_another_name(
    obstacle: object, tmp_path: Path
) -> None:
    obstacle(tmp_path / "job")  # type: ignore[operator]
    assert JobStore.open(tmp_path, "job", "s", CONFIG).name == "job_2"


def test_a_configuration_that_is_a_dangling_link_gives_the_job_another_name(tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    (tmp_path / "job/config.yaml").symlink_to("/nonexistent/config.yaml")
    assert JobStore.open(tmp_path, "job", "s", CONFIG).name == "job_2"


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match=r"cannot be used: File name too long$"):
        JobStore.open(tmp_path / ("j" * 300), "job", "s", CONFIG)


def test_a_path_that_leaves_no_room_for_records_is_refused_before_any_run(tmp_path: Path) -> None:
    deep = tmp_path / "/".join(["d" * 200] * 18)
    room = 4096 - len(os.fsencode(deep)) - len("/job/")
    with pytest.raises(FolderError, match=r"its path has 4,0\d\d bytes, and paths .* 4,096$"):
        JobStore.open(deep / ("e" * 200) / ("f" * (room - 261)), "job", "s", CONFIG)


def test_a_folder_that_refuses_a_job_is_no_reason_to_try_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def refuse(path: object, mode: int = 0o777) -> None:
        tried.append(path)
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(FolderError, match="cannot be used: Read-only file system"):
        JobStore.open(tmp_path, "job", "s", CONFIG)
    assert [path for path in tried if path != tmp_path] == [tmp_path / "job"]


def test_a_folder_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    make_folder(tmp_path / "link")
    make_folder(tmp_path / "link" / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
