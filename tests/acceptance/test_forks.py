"""Forks are what new interpreters would be, but for what they have imported."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.acceptance.conftest import Project

LOOK = """
import atexit
import os
import sys

atexit.register(print, "left")
print(os.getcwd(), os.environ["WORD"], sys.argv[1:], __name__)
print("pandas" in sys.modules, [name for name in sys.modules if name.startswith("tests")])
print(os.getpid(), os.getppid(), sys.stdin.read(), file=sys.stderr)
if len(sys.argv) > 1:
    sys.exit(3)
os.kill(os.getpid(), 9)
"""
FLAGS = """
import sys

def test_flags():
    assert sys.flags.utf8_mode
"""


def test_a_fork_has_a_folder_an_environment_and_an_end_of_its_own(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("look.py", LOOK)
    monkeypatch.setenv("WORD", "héllo")
    result = project.python("-m", "look", "-x")
    assert result.ret == 3
    assert result.outlines == [f"{project.path} héllo ['-x'] __main__", "True []", "left"]
    pid, parent = map(int, result.errlines[0].split())
    assert os.getpid() not in (pid, parent)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_signal_that_ends_a_fork_is_its_exit_code(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("look.py", LOOK)
    monkeypatch.setenv("WORD", "any")
    assert project.python("-m", "look").ret == -signal.SIGKILL


def test_a_fork_that_takes_too_long_can_be_killed(project: Project) -> None:
    project.write("test_slow.py", "def test_slow():\n    import time\n    time.sleep(600)\n")
    with (project.path / "output.txt").open("wb") as output:
        process = project.spawn(output.fileno(), "test_slow.py")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    assert process.poll() is None
    process.kill()
    assert process.wait(60) == process.poll() == -signal.SIGKILL


def test_workers_of_a_fork_are_forks(project: Project) -> None:
    project.write(
        "test_worker.py",
        "import sys\n"
        "def test_worker(worker_id):\n"
        "    assert worker_id == 'gw0'\n"
        "    assert 'pandas' in sys.modules\n",
    )
    (project.path / "conftest.py").unlink()
    project.run("test_worker.py", "-n1").assert_outcomes(passed=1)


def test_workers_have_their_session_for_a_parent_and_its_group(project: Project) -> None:
    project.write(
        "test_of.py", "import os\ndef test_of():\n    assert 0 == (os.getppid(), os.getpgrp())\n"
    )
    session = project.start("test_of.py", "-n1")
    pid = session.process.pid
    assert f"assert 0 == ({pid}, {pid})" in session.finish(60)


def test_what_an_interpreter_reads_at_its_start_needs_one(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(
        "test_flags.py", "import sys\ndef test_flags():\n    assert sys.flags.utf8_mode\n"
    )
    assert project.run("test_flags.py").ret == pytest.ExitCode.TESTS_FAILED
    monkeypatch.setenv("PYTHONUTF8", "1")
    assert project.run("test_flags.py").ret == pytest.ExitCode.OK
