"""Engines that live in the calling process: submitit's ``debug``, and its plug-ins by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_siren.distribute.cluster.element import Element
from pytest_siren.distribute.cluster.engines.base import ElementState, ElementStatus, SubmitError
from pytest_siren.distribute.cluster.engines.results import (
    ended_status,
    log_of,
    lost_status,
    of_result,
    results_in,
)
from pytest_siren.distribute.cluster.settings import Settings

if TYPE_CHECKING:
    from submitit import Job
    from submitit.core.utils import DelayedSubmission


@dataclass
class DebugEngine:
    """Executes one element after the other, when it is driven."""

    folder: Path
    name: str = "debug"
    _submitted: dict[str, DelayedSubmission] = field(default_factory=dict)
    _results: dict[str, ElementStatus] = field(default_factory=dict)

    def submit(self, elements: Sequence[Element], settings: Settings) -> list[str]:
        """Keep them until they are driven."""
        jobs = _executor(self.name, self.folder, settings).submit_array(list(elements))
        submitted = {job.job_id: job.submission() for job in jobs}
        self._submitted.update(submitted)
        return list(submitted)

    def statuses(self, ids: Sequence[str]) -> Mapping[str, ElementStatus]:
        """Return what has been executed; elements of another process have gone with it."""
        gone = ElementStatus(ElementState.ENDED, "ended with its session", failed=True)
        waits = ElementStatus(ElementState.PENDING)
        waiting = dict.fromkeys(self._submitted, waits)
        return {one: self._results.get(one) or waiting.get(one, gone) for one in ids}

    def cancel(self, ids: Sequence[str]) -> None:
        """Execute none of them any more."""
        for one in ids:
            if self._submitted.pop(one, None) is not None:
                self._results[one] = ElementStatus(
                    ElementState.ENDED, "cancelled", failed=True, cancelled=True
                )

    def drive(self) -> None:
        """Execute the next element, to its end."""
        if not self._submitted:
            return
        element = next(iter(self._submitted))
        # Not Job.result: it opens a debugger at an error, and leaves its log files open.
        result = self._submitted[element].result()
        del self._submitted[element]
        self._results[element] = of_result(result, None)

    def close(self) -> None:
        """Forget what was not executed."""
        self._submitted.clear()


@dataclass
class PluginEngine:
    """Whatever is installed under submitit's entry points ``submitit``, by its name."""

    folder: Path
    name: str
    _jobs: dict[str, Job[Any]] = field(default_factory=dict)

    def submit(self, elements: Sequence[Element], settings: Settings) -> list[str]:
        """Submit them as the plug-in does."""
        jobs = _executor(self.name, self.folder, settings).submit_array(list(elements))
        self._jobs.update((job.job_id, job) for job in jobs)
        return [job.job_id for job in jobs]

    def statuses(self, ids: Sequence[str]) -> Mapping[str, ElementStatus]:
        """Return what the plug-in says, and the results that are in the folder."""
        finished = {one for one in ids if self._job(one).done()}
        done = results_in(self.folder)
        return {one: self._status(one, one in finished, one in done) for one in ids}

    def _status(self, element: str, finished: bool, done: bool) -> ElementStatus:
        if done and (status := ended_status(self.folder, element)) is not None:
            return status
        word = str(self._job(element).state)
        if finished:
            return lost_status(self.folder, element, word)
        pending = word.upper() in ("PENDING", "QUEUED", "READY")
        state = ElementState.PENDING if pending else ElementState.RUNNING
        return ElementStatus(state, log=log_of(self.folder, element))

    def cancel(self, ids: Sequence[str]) -> None:
        """Cancel them as the plug-in does."""
        for one in ids:
            self._job(one).cancel(check=False)

    def drive(self) -> None:
        """A plug-in that executes in this process does so when it is asked for statuses."""

    def close(self) -> None:
        """Forget the handles."""
        self._jobs.clear()

    def _job(self, element: str) -> Job[Any]:
        """Return submitit's handle, also in a process that did not submit."""
        if element not in self._jobs:
            from submitit.core.plugins import get_executors

            self._jobs[element] = get_executors()[self.name].job_class(self.folder, element)
        return self._jobs[element]


def _executor(name: str, folder: Path, settings: Settings) -> Any:
    from submitit import AutoExecutor

    folder.mkdir(parents=True, exist_ok=True)
    try:
        executor = AutoExecutor(folder=folder, cluster=name)
        executor.update_parameters(**settings.parameters(name))
    except (NameError, ValueError, RuntimeError) as error:
        raise SubmitError(f"{name}: {error}") from None
    return executor
