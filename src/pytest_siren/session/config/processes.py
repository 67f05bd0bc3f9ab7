"""What all processes of a session know of it, what this one is, its executor and its components.

Loaded by every pytest session, so nothing heavy.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from pytest_siren.evaluation.components import Registry
    from pytest_siren.sharing.state import SharedState


@dataclass(frozen=True)
class Resume:
    """What a session goes on with; the same on the controller and on every worker."""

    how: str
    """``--lf`` or ``--resume TARGET``, for messages."""
    jobs: Mapping[str, str]
    """Identity of a job's configuration to the path of its folder."""
    sweep: str | None
    jobs_dir: str | None
    """Where jobs are that begin now; ``None`` leaves it to option, ini key and eval file."""
    only: bool
    """Whether nothing but these jobs is run; else a configuration that changed is a new job."""
    retry: Sequence[str] | None
    """Types of errors, in lower case, after which a run is executed again; ``None``: all."""
    invocations: Mapping[str, Mapping[str, Any]]
    """With ``only``: identity of a job to what its session had been asked for."""
    files: Mapping[str, str]
    """With ``only``: identity of a job to its eval file, relative to the root folder."""
    override: Mapping[str, Any]
    """What the user changes, as the job's history of overrides keeps it; may be empty."""
    target: str | None = None
    """What ``--resume`` was given."""
    kept: Mapping[str, Any] = field(default_factory=dict)
    """What the next ``--lf`` is to go on with: what was asked for at first, with the overrides."""

    def of_file(self, file: str) -> dict[str, Mapping[str, Any]]:
        """Return the jobs of the eval file ``file`` with their invocations."""
        return {
            identity: self.invocations[identity]
            for identity, source in self.files.items()
            if source == file
        }


@dataclass(frozen=True)
class SessionInfo:
    """Decided once, on the controller."""

    id: str
    started_at: float
    """Seconds since the epoch."""
    jobs_dir: str | None
    """Where the user wants jobs; ``None`` when neither option nor ini key says."""
    records_id: str
    """Processes with the same one share jobs; those of ``--dist each`` have one each."""
    invocation: dict[str, Any] = field(default_factory=dict)
    """What the user asked for, as ``Invocation.plain`` gives it."""
    resume: Resume | None = None
    """What this session goes on with."""
    set_aside: str | None = None
    """How to resume the evaluations that this session leaves alone; it collects none then."""

    @property
    def started(self) -> datetime:
        return datetime.fromtimestamp(self.started_at, UTC)

    @property
    def sweep(self) -> str:
        """Name of the sweep that its jobs belong to."""
        known = self.resume.sweep if self.resume else None
        return known or self.started.strftime("%Y-%m-%d_%H-%M-%S")


class Part(Enum):
    """What a process does in its session."""

    ALONE = "collects, executes and reports"
    CONTROLLER = "reports what workers execute"
    SUBMITTER = "collects, and reports what the elements of a cluster execute"
    WORKER = "executes what its controller assigns"


@dataclass(frozen=True)
class Role:
    """The place of this process in its session."""

    part: Part = Part.ALONE
    name: str = ""
    """Name of a worker, which no other process of the session has; empty for other parts."""
    first: bool = True
    """Whether this process does what one process has to do for all, such as the changes that
    resuming makes to the configuration of a job."""
    processes: int = 1
    """How many processes execute runs, this one included."""
    session_process: int = field(default_factory=os.getpid)
    """Id of the process that the session was started with, on this machine."""


class Executor(Protocol):
    """How the runs of one session get to its processes, and what comes back.

    Each process of a session has one. The session asks it what this process is, gives it the items
    to execute, and reads from it what all processes came to.
    """

    @property
    def role(self) -> Role:
        """What this process is."""
        ...

    @property
    def launcher(self) -> str:
        """Word for the executor in the files of sweeps."""
        ...

    @property
    def repeats(self) -> bool:
        """Whether every worker executes all runs, and records them in jobs of its own."""
        ...

    @property
    def decided(self) -> Mapping[str, Any] | None:
        """What the controller decided on the session; ``None`` where this process decides."""
        ...

    @property
    def begins_early(self) -> bool:
        """Whether the session begins before any eval file is seen, whatever its options are."""
        ...

    @property
    def detached(self) -> bool:
        """Whether the runs go on without this process: there is nothing to report or to judge."""
        ...

    def attach(self, jobs: Mapping[str, str]) -> frozenset[int]:
        """Take notice that the session goes on with ``jobs``: identities and paths of folders.

        Returns the ids of the processes of this host, of an earlier session, that still execute
        runs of them and that this one follows. Raises ``pytest.UsageError`` where it cannot.
        """
        ...

    # What the processes share.

    def join(self) -> SharedState:
        """Return the state that all processes share, made if this process is the first.

        Raises ``OSError`` and ``SharedStateError`` where there is no place for it.
        """
        ...

    def leave(self) -> None:
        """Remove what the processes shared, if no other process needs it."""
        ...

    @property
    def state(self) -> SharedState | None:
        """That state, while it is open; ``None`` before any process has seen an eval file."""
        ...

    # The way of a session, in the process that has collected.

    def collected(self, session: pytest.Session) -> None:
        """Take notice that ``session`` has collected its items, with eval files among them."""
        ...

    def execute(self, session: pytest.Session) -> bool:
        """Execute the items of ``session``, or have them executed; tell whether that was done.

        ``False`` leaves them to pytest's own loop. Raises what that loop raises when the session is
        stopped.
        """
        ...

    def finish(self, jobs: Sequence[Path]) -> None:
        """Take notice that this process has written all that it will into the folders ``jobs``.

        The process that ends last merges what all of them have added to the indexes.
        """
        ...

    # What the process that reports knows of the others, and tells them.

    def planned(self) -> Sequence[Mapping[str, Any]] | None:
        """Return what the processes that have jobs of their own plan to execute, as JSON data.

        ``None`` where this process has collected and knows by itself.
        """
        ...

    @property
    def total(self) -> int:
        """Runs that the session is to execute; 0 while that is not known."""
        ...

    @property
    def deaths(self) -> int:
        """Processes that died with runs in flight."""
        ...

    @property
    def unavailable(self) -> tuple[str, ...]:
        """Why no run on some models can succeed, unless the session ends with these reasons."""
        ...

    def settle(self) -> None:
        """Let no further runs begin anywhere; those in flight go on."""
        ...

    def drop(self, nodeids: Iterable[str]) -> None:
        """Assign none of these runs to a process any more; what is assigned already goes on."""
        ...


EXECUTOR: pytest.StashKey[Executor] = pytest.StashKey()
"""The executor of this process; there from ``pytest_configure`` on."""


def executor_of(config: pytest.Config) -> Executor:
    """Return the executor of this process."""
    return config.stash[EXECUTOR]


def is_worker(config: pytest.Config) -> bool:
    """Whether another process reports what this one executes."""
    return executor_of(config).role.part is Part.WORKER


_REGISTRY = pytest.StashKey["Registry"]()


class RegistrationError(Exception):
    """A hook that registers components has raised; the message says what."""


def registry(config: pytest.Config) -> Registry:
    """Return the registry of this process, filled when it is first asked for.

    A conftest.py that pytest loads later adds its components then. Raises ``RegistrationError``.
    """
    from pytest_siren.evaluation.components import Registry
    from pytest_siren.evaluation.isolation import UserInterrupt, marked_interrupts, one_line

    if _REGISTRY not in config.stash:
        made = Registry()
        with marked_interrupts():
            try:
                config.hook.pytest_siren_components_register.call_historic(
                    kwargs={"registry": made}
                )
            except UserInterrupt:
                raise
            except BaseException as error:
                # pytest would take some for a folder that is skipped, or the end of the session.
                message = f"pytest_siren_components_register: {one_line(error)}"
                raise RegistrationError(message) from error
        config.stash[_REGISTRY] = made
    return config.stash[_REGISTRY]
