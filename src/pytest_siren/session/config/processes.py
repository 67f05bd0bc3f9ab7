"""What this process is among those of its session, its executor, and its registry of components.

Loaded by every pytest session, so nothing heavy.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from pytest_siren.evaluation.components import Registry
    from pytest_siren.sharing.state import SharedState


class Part(Enum):
    """What a process does in its session."""

    ALONE = "collects, executes and reports"
    CONTROLLER = "reports what workers execute"
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
