"""The temporary folders of sessions: private, and swept once their processes are gone."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pytest_siren.session.recording.shared_folder import SessionFolder
from pytest_siren.sharing.state import host, private_folder, spare_jobs, sweep_temporary


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def dead() -> int:
    """The id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def left(temporary: Path, name: str, *processes: str) -> Path:
    folder = temporary / name
    folder.mkdir()
    for process in processes:
        (folder / f"process-{process}").touch()
    return folder


def test_folders_of_killed_sessions_are_removed_and_no_others(temporary: Path, dead: int) -> None:
    gone, lives = f"{host()}-{dead}", f"{host()}-{os.getpid()}"
    left(temporary, "pytest-siren-dead", gone)
    kept = [
        left(temporary, "pytest-siren-lives", gone, lives),
        left(temporary, "pytest-siren-begins"),
        left(temporary, "pytest-siren-elsewhere", f"another-{dead}"),
        left(temporary, "pytest-siren-odd", f"{host()}-²"),
        left(temporary, "another-plugin", gone),
    ]
    target = left(temporary, "elsewhere", gone)
    link = temporary / "pytest-siren-link"
    link.symlink_to(target)
    sweep_temporary()
    assert sorted(temporary.iterdir()) == sorted([*kept, target, link])


def test_the_folder_of_this_session_is_not_swept(temporary: Path) -> None:
    folder = SessionFolder.of("1234")
    folder.board().close()
    sweep_temporary()
    assert folder.exists()


def test_folders_are_for_one_user_alone_and_links_are_not_followed(temporary: Path) -> None:
    spare = spare_jobs("1234")
    assert spare.parent.stat().st_mode & 0o777 == 0o700
    assert spare_jobs("1234") == spare
    target = temporary / "target"
    target.mkdir()
    for name in ("pytest-siren-5678", "pytest-siren-5678-jobs"):
        (temporary / name).symlink_to(target)
    with pytest.raises(PermissionError, match="it is no folder"):
        SessionFolder.of("5678").board()
    with pytest.raises(PermissionError, match="it is no folder"):
        spare_jobs("5678")
    assert not list(target.iterdir())


def test_a_folder_that_others_may_write_to_is_refused(temporary: Path) -> None:
    shared = temporary / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(PermissionError, match="other users may write to it"):
        private_folder(shared)


def test_a_folder_that_vanishes_meanwhile_is_nobodys_concern(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "pytest-siren-gone").mkdir()
    scan = os.scandir

    class Vanishing:
        """Its entries are read, and gone when they are looked at."""

        def __enter__(self) -> list[os.DirEntry[str]]:
            with scan(tmp_path) as found:
                entries = list(found)
            (tmp_path / "pytest-siren-gone").rmdir()
            return entries

        def __exit__(self, *_: object) -> None:
            return None

    monkeypatch.setattr(os, "scandir", lambda path: Vanishing())
    sweep_temporary()
