"""An element starts processes, passes on that they shall end, and outlives none of them."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_siren.distribute.cluster.element import Element, ElementResult, FruitlessError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CHILD = "tests.unit.element_process"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def element(folder: Path, processes: int = 1) -> Element:
    return Element(folder, 3, processes, folder, patience=10.0, module=CHILD)


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "nothing has happened"
        time.sleep(0.02)


def begun(folder: Path) -> int:
    return len(list(folder.glob("reports/*.jsonl")))


def test_every_process_has_a_name_of_its_own_in_every_start(tmp_path: Path) -> None:
    assert element(tmp_path, 2)() == ElementResult({"e3.0": 0, "e3.1": 0})
    assert element(tmp_path)() == ElementResult({"e3.0-r1": 0})


def test_processes_run_in_the_users_folder_and_know_nothing_of_submitit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELEMENT_PROCESS", "seen")
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    element(tmp_path)()
    assert (tmp_path / "seen").read_text() == f"{tmp_path} []"


def test_a_broken_environment_is_one_message_with_the_end_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELEMENT_PROCESS", "broken")
    result = element(tmp_path, 3)()
    assert result.broken
    assert result.codes == {"e3.0": 1, "e3.1": 1, "e3.2": 1}
    first, *_, last = result.problem.splitlines()
    assert first.startswith("process e3.0 (and 2 others) could not begin on ")
    assert first.endswith(f"exit code 1; the end of {tmp_path}/engine/e3.0.log:")
    assert last == "    ModuleNotFoundError: No module named 'their_suite'\\x1b[31m"


def test_a_folder_that_the_node_lacks_is_named(tmp_path: Path) -> None:
    lost = Element(tmp_path, 0, 2, tmp_path / "gone", module=CHILD)()
    assert lost.broken
    assert f"No such file or directory: '{tmp_path}/gone'; are {tmp_path}/gone" in lost.problem


def test_a_process_that_is_killed_later_is_a_failure_of_its_element_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELEMENT_PROCESS", "killed")
    result = element(tmp_path)()
    assert not result.broken
    assert result.problem.startswith("process e3.0 failed on ")
    assert ": killed by SIGKILL; the end of " in result.problem


def test_a_checkpoint_ends_the_processes_and_goes_on_with_the_same_element(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELEMENT_PROCESS", "sleeps")
    one = element(tmp_path, 2)
    results: list[ElementResult] = []
    thread = threading.Thread(target=lambda: results.append(one()))
    thread.start()
    until(lambda: begun(tmp_path) == 2)
    again = one.checkpoint().function
    thread.join(20)
    assert results == [ElementResult({"e3.0": 2, "e3.1": 2})]
    assert len(list(tmp_path.glob("*.ended"))) == 2
    assert pickle.loads(pickle.dumps(again)) == replace(element(tmp_path, 2), fruitless=1)


def test_an_element_that_never_gets_anywhere_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELEMENT_PROCESS", "reports nothing")
    one = element(tmp_path)
    for _ in range(2):
        one()
        one = one.checkpoint().function
    one()
    with pytest.raises(FruitlessError, match="no run came to its end in 3 starts; give elements"):
        one.checkpoint()


def test_an_element_that_gets_further_is_started_as_often_as_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELEMENT_PROCESS", "reports")
    one = element(tmp_path)
    for _ in range(6):
        one()
        one = one.checkpoint().function
    assert one.fruitless == 0


ALONE = f"""
import sys
from pathlib import Path
from pytest_siren.distribute.cluster.element import Element
folder = Path(sys.argv[1])
Element(folder, 3, 2, folder, patience=10.0, module="{CHILD}")()
"""


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> subprocess.Popen[bytes]:
    """An element in a process of its own, whose processes sleep."""
    monkeypatch.setenv("ELEMENT_PROCESS", "sleeps")
    process = subprocess.Popen([sys.executable, "-c", ALONE, str(tmp_path)])
    until(lambda: begun(tmp_path) == 2)
    until(lambda: all(path.read_text() for path in tmp_path.glob("reports/*.jsonl")))
    return process


def test_sigterm_ends_the_processes_in_order(
    alone: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    alone.send_signal(signal.SIGTERM)
    assert alone.wait(20) == 128 + signal.SIGTERM
    assert len(list(tmp_path.glob("*.ended"))) == 2


def test_processes_ignore_the_signals_that_slurm_sends_to_everybody(
    alone: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    for path in tmp_path.glob("reports/*.jsonl"):
        for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGCONT):
            os.kill(int(path.read_text()), number)
    time.sleep(0.3)
    assert alone.poll() is None
    alone.send_signal(signal.SIGTERM)
    alone.wait(20)
    assert len(list(tmp_path.glob("*.ended"))) == 2


def test_processes_die_with_an_element_that_is_killed(
    alone: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    pids = [int(path.read_text()) for path in tmp_path.glob("reports/*.jsonl")]
    alone.kill()
    alone.wait()
    until(lambda: not any(_works(pid) for pid in pids))
    assert list(tmp_path.glob("*.ended")) == []


def _works(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
