"""What elements ask a cluster for: the key ``slurm:`` of eval files and options, for submitit."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_siren.text.words import listed

if TYPE_CHECKING:
    from pytest_siren.session.config.option_groups import Submission

MOST_ELEMENTS = 16
"""Elements of a group where ``--slurm-shards`` does not say how many."""
_NAME = "siren"
_LONGEST_NOTICE = 120
"""Seconds before its time limit at which an element is asked to end, at most."""
_GENERAL = ("timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node", "name", "stderr_to_stdout")
"""Parameters that submitit translates for every engine."""
_DECIDED = {
    *("nodes", "tasks_per_node", "ntasks", "ntasks_per_node", "array", "map_count"),
    *("output", "error", "open_mode", "stderr_to_stdout", "use_srun", "signal", "signal_delay_s"),
}
"""Parameters that the session decides: an element is one task on one node."""


@dataclass(frozen=True)
class Settings:
    """What each element of a group asks for. Jobs with equal settings share an array."""

    partition: str | None = None
    time_minutes: int = 240
    gpus_per_node: int = 0
    cpus_per_task: int = 4
    mem_gb: int = 32
    constraint: str | None = None
    account: str | None = None
    qos: str | None = None
    array_parallelism: int | None = None
    """How many elements of the array may run at a time; ``None`` leaves it to submitit."""
    setup: tuple[str, ...] = ()
    """Lines of shell that run before an element."""
    additional_parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, section: Mapping[str, Any], submission: Submission) -> Settings:
        """Return the settings of a job with the section ``slurm:``; options win.

        Raises ``pytest.UsageError`` for additional parameters that the session decides by itself.
        """
        settings = cls.from_plain(section)
        _check(settings.additional_parameters)
        if submission.partition is not None:
            settings = replace(settings, partition=submission.partition)
        if submission.minutes is not None:
            settings = replace(settings, time_minutes=submission.minutes)
        return settings

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Settings:
        """Return what ``plain`` gave."""
        return cls(**{**values, "setup": tuple(values.get("setup") or ())})

    def plain(self) -> dict[str, Any]:
        """Return JSON data."""
        return {**asdict(self), "setup": list(self.setup)}

    @property
    def notice_seconds(self) -> int:
        """Seconds before the time limit at which an element is asked to end."""
        return min(_LONGEST_NOTICE, self.time_minutes * 15)

    def parameters(self, engine: str) -> dict[str, Any]:
        """Return the parameters for submitit's ``AutoExecutor`` with the executor ``engine``."""
        given = {
            "name": _NAME,
            "stderr_to_stdout": True,
            "timeout_min": self.time_minutes,
            "mem_gb": self.mem_gb,
            "cpus_per_task": self.cpus_per_task,
            "gpus_per_node": self.gpus_per_node,
            **(self._for_slurm() if engine == "slurm" else {}),
            **({"local_setup": list(self.setup)} if engine == "local" and self.setup else {}),
        }
        return {**given, **self._additional(engine)}

    def _for_slurm(self) -> dict[str, Any]:
        given = {
            "slurm_partition": self.partition,
            "slurm_constraint": self.constraint,
            "slurm_account": self.account,
            "slurm_qos": self.qos,
            "slurm_array_parallelism": self.array_parallelism,
            "slurm_setup": list(self.setup) or None,
            "slurm_signal_delay_s": self.notice_seconds,
            # Since 22.05, srun does not take it from sbatch any more.
            "slurm_srun_args": [f"--cpus-per-task={self.cpus_per_task}"],
        }
        return {name: value for name, value in given.items() if value is not None}

    def _additional(self, engine: str) -> dict[str, Any]:
        """Return the additional parameters: submitit's own by their names, the rest as sbatch's."""
        given: dict[str, Any] = {}
        options: dict[str, Any] = {}
        for name, value in self.additional_parameters.items():
            own = name in _GENERAL or name.startswith(f"{engine}_")
            (given if own else options)[name] = value
        if engine == "slurm" and options:
            given["slurm_additional_parameters"] = options
        return given


def _check(additional: Mapping[str, Any]) -> None:
    bare = {name: name.removeprefix("slurm_").replace("-", "_") for name in additional}
    if decided := sorted(name for name in bare if bare[name] in _DECIDED):
        raise pytest.UsageError(
            f"slurm.additional_parameters: {listed(decided)} cannot be given: the session decides "
            "it, for an element is one task on one node"
        )


def python() -> str:
    """Return the shell words for this Python, which leaves the current folder out of its path."""
    return f"{shlex.quote(sys.executable)} -P"


def default_elements(pending: int, window: int, processes: int) -> int:
    """Return how many elements are enough for ``pending`` runs.

    ``window`` runs are in flight in each of the ``processes`` of an element.
    """
    return max(1, min(MOST_ELEMENTS, math.ceil(pending / (window * processes))))
