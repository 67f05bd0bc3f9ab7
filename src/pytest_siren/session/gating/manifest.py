"""The manifest of a session for its gates: the planned runs, and the gates of eval files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_siren.session.config.option_groups import INI
from pytest_siren.session.config.processes import executor_of
from pytest_siren.session.config.stash import EARLY, SESSION
from pytest_siren.session.recording.shared_folder import SessionFolder
from pytest_siren.spec.gates import Gate, parse_gate

if TYPE_CHECKING:
    from pytest_siren.session.items.job import Job
    from pytest_siren.session.recording.recorder import JsonRecorder


@dataclass
class FileGate:
    """A gate of an eval file."""

    text: str
    file: str
    """Path of the eval file, as messages show it."""
    jobs: list[str] = field(default_factory=list)
    """Identities of the jobs that it applies to."""
    collected: int = 0
    """Runs of these jobs, before any was deselected."""
    correction: str = ""
    """The file's ``gate_correction``."""


FILE_GATES = pytest.StashKey[dict[tuple[str, str], FileGate]]()
"""Gates by eval file and text, in the order in which this process read them."""


LEFT_OUT = pytest.StashKey[int]()
"""Number of runs left out before the first run, because they could change no verdict."""

Table = tuple[list[str], list[str], int]
"""Benign and malicious tasks of a job, in a shuffled order, and its number of couples."""
TABLES = pytest.StashKey[Mapping[str, Table]]()
"""The tables of the jobs by their identities, before runs were left out; only with ``--gate-stop``.
"""


@dataclass(frozen=True)
class PlannedTask:
    """Runs of one task or couple."""

    job: int
    """Index of its job."""
    benign: str
    malicious: str | None
    runs: Sequence[int]
    """Their indexes."""

    @property
    def id(self) -> str:
        """Id of the task or couple."""
        return self.benign if self.malicious is None else f"{self.benign}:{self.malicious}"


@dataclass(frozen=True)
class RunManifest:
    """The runs that were collected and not deselected."""

    jobs: Sequence[Mapping[str, str | None]]
    """Values of the columns of ``metrics/frame.py`` that all runs of a job share."""
    tasks: Sequence[PlannedTask]
    gates: Sequence[FileGate]
    rounds: int = 1
    """Largest number of runs of a task."""
    left_out: int = 0
    """Number of runs that are not executed because they could change no verdict."""
    early: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Identity of each job whose tasks may end early to the measures that decide them."""
    not_early: Sequence[str] = ()
    """Why tasks of other jobs may not."""
    tables: Mapping[str, Table] = field(default_factory=dict)
    """The ``TABLES`` of its jobs."""

    def plain(self) -> dict[str, Any]:
        """Return JSON data."""
        tasks = [[task.job, task.benign, task.malicious, list(task.runs)] for task in self.tasks]
        return {
            "jobs": [dict(job) for job in self.jobs],
            "tasks": tasks,
            "gates": [asdict(gate) for gate in self.gates],
            "rounds": self.rounds,
            "left_out": self.left_out,
            "early": self.early,
            "not_early": list(self.not_early),
            "tables": dict(self.tables),
        }

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> RunManifest:
        """Return the manifest from the data of ``plain``."""
        return cls(
            jobs=data["jobs"],
            tasks=[PlannedTask(*task) for task in data["tasks"]],
            gates=[FileGate(**gate) for gate in data["gates"]],
            rounds=data["rounds"],
            left_out=data["left_out"],
            early=data["early"],
            not_early=data["not_early"],
            tables=data["tables"],
        )


def register_gates(config: pytest.Config, job: Job, file: str, runs: int) -> None:
    """Keep the gates of ``job`` of an eval file, from which ``runs`` runs were collected."""
    known = config.stash.setdefault(FILE_GATES, {})
    for text in job.spec.gates:
        gate = known.setdefault((file, text), FileGate(text, file))
        gate.correction = job.spec.gate_correction or gate.correction
        gate.jobs.append(job.identity)
        gate.collected += runs


def has_gates(config: pytest.Config) -> bool:
    """Whether this process knows of any gate, or ``--gate-stop`` is given."""
    given = config.getoption("siren_gate") or config.getini(INI) or config.stash.get(FILE_GATES, {})
    return bool(given or config.getoption("siren_gate_stop"))


def planned(config: pytest.Config, items: Iterable[pytest.Item]) -> RunManifest:
    """Return the manifest of the runs that this process collected."""
    # A controller reads its workers' manifests, and need not import the modules of runs.
    from pytest_siren.session.items.job import RunItem
    from pytest_siren.session.recording.recorder import RECORDER

    jobs: dict[int, int] = {}
    facts: list[Mapping[str, str | None]] = []
    runs: dict[tuple[int, str, str | None], list[int]] = {}
    rounds = 1
    recorder = config.stash.get(RECORDER, None)
    for item in items:
        if not isinstance(item, RunItem) or recorder is None:
            continue
        if id(item.job) not in jobs:
            jobs[id(item.job)] = len(facts)
            facts.append(_facts(item.job, recorder))
            rounds = max(rounds, item.job.spec.runs)
        malicious = item.malicious.id if item.malicious else None
        runs.setdefault((jobs[id(item.job)], item.benign.id, malicious), []).append(item.run_index)
    tasks = [PlannedTask(*key, indexes) for key, indexes in runs.items()]
    gates = list(config.stash.get(FILE_GATES, {}).values())
    early, not_early = config.stash.get(EARLY, ({}, []))
    left_out, tables = config.stash.get(LEFT_OUT, 0), config.stash.get(TABLES, {})
    return RunManifest(facts, tasks, gates, rounds, left_out, early, not_early, tables)


def _facts(job: Job, recorder: JsonRecorder) -> dict[str, str | None]:
    folder = recorder.folder(job)
    return {
        "dataset": job.dataset.name,
        "suite": job.dataset.suite,
        "agent": job.spec.agent_name,
        "model": job.model.label,
        "model_kind": job.model.kind.value,
        "attack": job.attack_name,
        "job": "" if folder is None else str(folder),
        "identity": job.identity,
    }


def publish_manifest(session: pytest.Session, folder: SessionFolder) -> None:
    """Publish the manifest of a worker for the controller.

    The first of the workers that share jobs does so.
    """
    config = session.config
    if not has_gates(config):
        return
    records = config.stash[SESSION].records_id
    if not folder.has_planned(records):
        folder.write_planned(records, planned(config, session.items).plain())


def file_gates(plan: Sequence[RunManifest]) -> list[Gate]:
    """Return the gates of eval files, but not of files whose runs were all deselected."""
    chosen = {str(job["identity"]) for one in plan for job in one.jobs}
    gates: dict[tuple[str, str], Gate] = {}
    for one in plan:
        for given in one.gates:
            if given.collected and chosen.isdisjoint(given.jobs):
                continue
            gate = parse_gate(given.text, given.file)
            gates[given.file, given.text] = replace(gate, jobs=frozenset(given.jobs))
    return list(gates.values())


def read_manifests(session: pytest.Session) -> list[RunManifest]:
    """Return the manifest of each process with its own jobs; usually there is one."""
    config = session.config
    elsewhere = executor_of(config).planned()
    if elsewhere is not None:
        return [RunManifest.from_plain(data) for data in elsewhere]
    return [planned(config, getattr(session, "items", ()))] if has_gates(config) else []
