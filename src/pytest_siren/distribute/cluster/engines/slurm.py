"""Elements that Slurm starts as an array of jobs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_siren.distribute.cluster.element import Element
from pytest_siren.distribute.cluster.engines.base import (
    ElementState,
    ElementStatus,
    EngineError,
    SubmitError,
)
from pytest_siren.distribute.cluster.engines.results import (
    ended_status,
    log_of,
    lost_status,
    results_in,
)
from pytest_siren.distribute.cluster.engines.slurm_queue import (
    QueueEntry,
    QueueQuestion,
    accounts,
    cancel,
    partitions,
)
from pytest_siren.distribute.cluster.engines.submission import submit
from pytest_siren.distribute.cluster.settings import Settings
from pytest_siren.text.words import listed

_PROMPT = 0.2
"""Seconds in which Slurm usually answers; what takes longer is looked for the next time."""
_LATE = 5.0
"""Seconds that a result, or an entry in the accounts, may be behind the queue."""


@dataclass
class SlurmEngine:
    """Submits arrays by ``sbatch``. An id is ``123_4``, or ``123`` for an array of one."""

    folder: Path
    name: str = "slurm"
    _seen: dict[str, ElementState] = field(default_factory=dict)
    """The state in which the queue had an element last."""
    _gone: dict[str, float] = field(default_factory=dict)
    """When an element was found to have left the queue without a result."""
    _ended: dict[str, ElementStatus] = field(default_factory=dict)
    _last: dict[str, ElementStatus] = field(default_factory=dict)
    _question: QueueQuestion | None = None
    """One that has not been answered yet."""

    def submit(self, elements: Sequence[Element], settings: Settings) -> list[str]:
        """Submit them as one array."""
        if shutil.which("sbatch") is None:
            raise SubmitError(
                "there is no sbatch on this machine: start pytest on a node of the cluster from "
                "which jobs are submitted, or use --siren-executor local"
            )
        parameters = settings.parameters(self.name)
        try:
            return submit(self.name, self.folder, parameters, elements, self.cancel)
        except SubmitError as error:
            raise SubmitError(f"{error}{_advice(str(error), settings)}") from None

    def statuses(self, ids: Sequence[str]) -> Mapping[str, ElementStatus]:
        """Return what the queue, the results and the accounts say, in this order."""
        open_ids = [one for one in ids if one not in self._ended]
        found = self._look(open_ids) if open_ids else {}
        ended = (one for one in found.items() if one[1].state is ElementState.ENDED)
        self._ended.update(ended)
        return {one: self._ended.get(one) or found[one] for one in ids}

    def _look(self, ids: Sequence[str]) -> Mapping[str, ElementStatus]:
        """Return the statuses as of now, or as of the last answer while Slurm takes its time."""
        try:
            queued, silence = self._queue(wait=not self._last.keys() >= set(ids)), ""
        except EngineError as error:
            queued, silence = {}, f"Slurm does not answer: {error}"
        if queued is None:
            return self._last
        done = results_in(self.folder)
        found = {one: self._status(one, queued.get(one), one in done) for one in ids}
        missing = [one for one in ids if found[one] is None]
        lost = {} if silence else self._lost(missing)
        known = {one: found[one] or lost.get(one) or self._unknown(one, silence) for one in ids}
        self._last.update(known)
        return known

    def _queue(self, *, wait: bool) -> Mapping[str, QueueEntry] | None:
        """Return what is in the queue; ``None`` if the answer is to be looked for later."""
        question = self._question or QueueQuestion()
        self._question = None
        try:
            queued = question.answer(float("inf") if wait else _PROMPT)
        except EngineError:
            question.close()
            raise
        if queued is None:
            self._question = question
        else:
            question.close()
        return queued

    def _status(self, element: str, entry: QueueEntry | None, done: bool) -> ElementStatus | None:
        """Return what is known for certain; ``None`` for one that is nowhere."""
        # One that runs again has the result of its former start beside it.
        if done and (entry is None or entry.leaving):
            return ended_status(self.folder, element)
        if entry is None:
            return None
        self._gone.pop(element, None)
        self._seen[element] = entry.state
        return ElementStatus(entry.state, entry.reason, log_of(self.folder, element))

    def _lost(self, elements: Sequence[str]) -> dict[str, ElementStatus]:
        """Return the statuses of those that have been gone for long enough."""
        now = time.monotonic()
        for one in elements:
            self._gone.setdefault(one, now)
        late = [one for one in elements if now - self._gone[one] >= _LATE]
        if not late:
            return {}
        words = accounts(late)
        return {
            one: lost_status(self.folder, one, words.get(one) or self._without_record(one))
            for one in late
        }

    def _without_record(self, element: str) -> str:
        """Return what must have happened to an element of which the accounts say nothing."""
        if self._seen.get(element) is ElementState.PENDING:
            # The accounts never hear of an element that is cancelled alone before it has begun.
            return "CANCELLED before it began"
        return "left the queue without a result"

    def _unknown(self, element: str, silence: str) -> ElementStatus:
        reason = silence or "has left the queue"
        return ElementStatus(ElementState.UNKNOWN, reason, log_of(self.folder, element))

    def cancel(self, ids: Sequence[str]) -> None:
        """End them by ``scancel``."""
        if ids:
            cancel(ids)

    def drive(self) -> None:
        """Nothing is executed in this process."""

    def close(self) -> None:
        """Do without the answers that are still due."""
        if self._question is not None:
            self._question.close()
            self._question = None


def _advice(words: str, settings: Settings) -> str:
    """Return what to do about a refusal of sbatch, as a further sentence; may be empty."""
    if "artition" in words:
        known = partitions()
        names = f": {listed(known)}" if known else ""
        return f"\nchoose a partition with --slurm-partition or slurm.partition{names}"
    if "Memory" in words or "node configuration" in words or "CPU count" in words:
        return (
            f"\nan element asks for {settings.mem_gb} GB, {settings.cpus_per_task} CPUs and "
            f"{settings.gpus_per_node} GPUs: lower slurm.mem_gb, slurm.cpus_per_task or "
            "slurm.gpus_per_node"
        )
    if "time limit" in words:
        return (
            f"\nan element asks for {settings.time_minutes} minutes: lower --slurm-time or "
            "slurm.time_minutes"
        )
    if "account" in words.lower() or "qos" in words.lower():
        return "\nname the account and the quality of service with slurm.account and slurm.qos"
    return ""
