"""Submits an array by submitit, in a process of its own: ``python -m`` this, with JSON as input.

Of its own, because submitit hands its environment and its open files on to the elements. In a job
of Slurm the environment would make them look for the wrong files; a terminal's Ctrl-C would reach
elements on this machine, and a pipe would stay open until the last of them has ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from pytest_siren.distribute.cluster.element import Element, tail
from pytest_siren.distribute.cluster.engines.base import SubmitError
from pytest_siren.distribute.cluster.settings import python
from pytest_siren.text.words import escaped

_LONGEST = 120.0
"""Seconds that a submission may take."""
_MOST_STARTS = 10_000
"""Times that an element which is out of time is started again."""
_KEPT = ("SLURM_CONF", "SLURM_CLUSTERS")
_OF_JOBS = ("SLURM", "SUBMITIT")


def submit(
    engine: str,
    folder: Path,
    parameters: Mapping[str, Any],
    elements: Sequence[Element],
    cancel: Callable[[Sequence[str]], None],
) -> list[str]:
    """Submit ``elements`` to submitit's executor ``engine``; return their ids in the same order.

    ``folder`` is submitit's. Raises ``SubmitError`` with the words of the engine. A Ctrl-C
    meanwhile takes effect when the ids are known, which are then cancelled.
    """
    folder.mkdir(parents=True, exist_ok=True)
    request = {
        "engine": engine,
        "folder": str(folder),
        "parameters": dict(parameters),
        "elements": [plain(element) for element in elements],
    }
    with interrupts_deferred() as interrupts:
        ids = _ids(engine, _answer_to(request, folder / "submission.log", elements[0].cwd))
        if interrupts:
            cancel(ids)
    return ids


def _answer_to(request: Mapping[str, Any], log: Path, cwd: Path) -> bytes:
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__],
            cwd=cwd,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            start_new_session=True,
        )
        try:
            answer, _ = process.communicate(json.dumps(request).encode(), timeout=_LONGEST)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise SubmitError(f"no answer to the submission within {_LONGEST:g} seconds") from None
    if not answer:
        raise SubmitError(f"the submission failed:\n{tail(log)}")
    return answer


def _ids(engine: str, answer: bytes) -> list[str]:
    told: dict[str, Any] = json.loads(answer)
    if "error" in told:
        raise SubmitError(f"{engine}: {told['error']}")
    ids: list[str] = told["ids"]
    return ids


@contextmanager
def interrupts_deferred() -> Iterator[list[int]]:
    """Collect SIGINT while the block runs; raise ``KeyboardInterrupt`` at its end if there was one.

    Only the main thread gets one.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    try:
        yield received
    finally:
        signal.signal(signal.SIGINT, before)
    if received:
        raise KeyboardInterrupt


def environment() -> dict[str, str]:
    """Return this process's environment without what describes the job that it is part of."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or not name.startswith(_OF_JOBS)
    }


def plain(element: Element) -> dict[str, Any]:
    """Return JSON data, from which ``element_of`` makes the same element."""
    return {
        "folder": str(element.folder),
        "number": element.number,
        "processes": element.processes,
        "cwd": str(element.cwd),
        "patience": element.patience,
        "module": element.module,
    }


def element_of(values: Mapping[str, Any]) -> Element:
    """Return the element that ``plain`` described."""
    return Element(**{**values, "folder": Path(values["folder"]), "cwd": Path(values["cwd"])})


def main() -> None:
    """Submit what the standard input asks for, and answer on the standard output.

    Elements on this machine are children of this process, which then stays until they have ended.
    """
    request = json.load(sys.stdin)
    local = request["engine"] == "local"
    if local and os.fork():
        os._exit(0)
    # Elements inherit the standard output; whoever reads the answer must not wait for them.
    with os.fdopen(os.dup(1), "w") as answer:
        _hand_devices_on()
        _answer(answer, request)
    while local:
        try:
            os.wait()
        except ChildProcessError:
            return


def _hand_devices_on() -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.close(nothing)


def _answer(answer: IO[str], request: Mapping[str, Any]) -> None:
    from submitit import AutoExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    engine = request["engine"]
    try:
        executor = AutoExecutor(
            folder=request["folder"],
            cluster=engine,
            # The element itself knows when it does not get any further.
            **{f"{engine}_python": python(), f"{engine}_max_num_timeout": _MOST_STARTS},
        )
        executor.update_parameters(**request["parameters"])
        # submitit keeps handles of the processes that it starts.
        jobs = executor.submit_array([element_of(one) for one in request["elements"]])
        told: dict[str, Any] = {"ids": [job.job_id for job in jobs]}
    except (FailedJobError, FailedSubmissionError, RuntimeError, NameError, OSError) as error:
        told = {"error": "\n".join(escaped(line) for line in str(error).splitlines())}
    json.dump(told, answer)


if __name__ == "__main__":
    main()
