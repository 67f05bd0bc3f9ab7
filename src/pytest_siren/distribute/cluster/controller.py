"""The executor of a session whose runs are executed by the elements of a cluster."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_siren.distribute.cluster.attach import Attached, Gauges, follow_attached, live_sessions
from pytest_siren.distribute.cluster.engines.by_name import engine_named
from pytest_siren.distribute.cluster.plan import Group, Plan, SessionStore, Submitted
from pytest_siren.distribute.cluster.terminal import say
from pytest_siren.session.config.options import grace
from pytest_siren.session.config.processes import Part, Role
from pytest_siren.session.config.stash import EVALUATIONS, SESSION
from pytest_siren.text.words import counted

if TYPE_CHECKING:
    from pytest_siren.distribute.cluster.following import Follower
    from pytest_siren.distribute.cluster.settings import Settings
    from pytest_siren.session.config.option_groups import Submission
    from pytest_siren.session.execution.executor import Evaluations
    from pytest_siren.session.items.job import RunItem
    from pytest_siren.sharing.files import SharedFiles
    from pytest_siren.sharing.state import SharedState

_ROUNDS = 3
"""Arrays that are submitted for the same runs, at most."""


@dataclass(eq=False)
class Submitting:
    """Collects, has elements execute the runs, and reports what they came to."""

    config: pytest.Config
    submission: Submission
    processes: int = 1
    """Processes of each element."""
    role: Role = field(default_factory=lambda: Role(Part.SUBMITTER))
    repeats: bool = False
    decided: Mapping[str, Any] | None = None
    begins_early: bool = False
    detached: bool = False
    path: Sequence[str] = field(default_factory=lambda: tuple(sys.path))
    """Where modules are found, before any conftest was read."""
    state: SharedFiles | None = None
    """The state that ``join`` returned."""
    _attached: Sequence[Attached] = ()
    _follower: Follower | None = None

    def __post_init__(self) -> None:
        # Raises ``pytest.UsageError`` for a name that nothing has, before anything is collected.
        engine_named(self.submission.engine, self.config.rootpath)

    @property
    def launcher(self) -> str:
        """Word for the executor in the files of sweeps."""
        return self.submission.engine

    @cached_property
    def store(self) -> SessionStore:
        """The folder that all processes of the session share."""
        from pytest_siren.session.recording.recorder import DEFAULT_JOBS_DIR

        session = self.config.stash[SESSION]
        jobs_dir = self.config.rootpath / (session.jobs_dir or DEFAULT_JOBS_DIR)
        return SessionStore.of(jobs_dir, session.id)

    def attach(self, jobs: Mapping[str, str]) -> frozenset[int]:
        """Follow the sessions that still execute ``jobs`` first, and then submit what is left."""
        self._attached = live_sessions(self.config, jobs)
        return frozenset[int]().union(*(one.pids for one in self._attached))

    def join(self) -> SharedState:
        """Return the state of the session, on files that all hosts share."""
        from pytest_siren.sharing.files import SharedFiles

        self.store.make()
        self.state = SharedFiles.open(self.store.state)
        return self.state

    def leave(self) -> None:
        """Remove what the processes shared, if all have ended; logs stay where any failed."""
        elements = None if self._follower is None else self._follower.elements
        if elements is not None:
            elements.engine.close()
        if self.detached:
            return
        if elements is None or (elements.all_ended and not elements.failed):
            self.store.remove()
        elif elements.all_ended:
            self.store.remove_but_logs()

    def collected(self, session: pytest.Session) -> None:
        """Nobody has to know before the plan is written."""

    def execute(self, session: pytest.Session) -> bool:
        """Execute tests that are no runs here, and have elements execute the runs."""
        from pytest_siren.session.execution.executor import evaluations_of
        from pytest_siren.session.execution.run_loop import (
            begin_jobs,
            count_runs,
            has_runs,
            showing_progress,
        )
        from pytest_siren.session.items.job import RunItem

        if not has_runs(session):
            return False
        evaluations = evaluations_of(self.config)
        begin_jobs(session, evaluations)
        gauges = Gauges([evaluations.board, *(one.state for one in self._attached)])
        evaluations.total = count_runs(session.items)
        with showing_progress(session, evaluations.total, gauges):
            followed = follow_attached(session, self._attached)
            runs = [
                item
                for item in session.items
                if isinstance(item, RunItem)
                and item.nodeid not in followed
                and not evaluations.is_recorded(item)
            ]
            self._execute_here(session, evaluations, {*followed, *(item.nodeid for item in runs)})
            if runs:
                self._submit(session, evaluations, runs)
        return True

    def _execute_here(
        self, session: pytest.Session, evaluations: Evaluations, others: set[str]
    ) -> None:
        """Execute what is no run, and report what is recorded: all but ``others``."""
        from pytest_siren.session.execution.run_loop import run_here

        if items := [item for item in session.items if item.nodeid not in others]:
            run_here(session, evaluations, grace(self.config), items)

    def _submit(
        self, session: pytest.Session, evaluations: Evaluations, runs: Sequence[RunItem]
    ) -> None:
        """Have ``runs`` executed, by more than one array where elements fail.

        Raises what pytest's own loop raises when the session is stopped.
        """
        from pytest_siren.distribute.cluster.engines.base import SubmitError
        from pytest_siren.session.execution.run_loop import raise_stopped, spending_allowed
        from pytest_siren.session.recording.untouched_jobs import remove_untouched

        groups = self._groups(evaluations, runs)
        plan = self._plan(groups, evaluations)
        self.store.write_plan(plan)
        follower = self._follower = self._following(session, plan, runs)
        try:
            for number, (settings, _) in enumerate(groups):
                self._submit_array(follower, settings, number, plan.groups[number].elements)
        except BaseException as error:
            # Of the arrays of other groups, which nobody would follow.
            follower.elements.cancel(follower.elements.ids)
            if isinstance(error, SubmitError):
                folders = evaluations.recorder.folders()
                self.config.add_cleanup(partial(remove_untouched, self.config, folders))
                raise session.Interrupted(f"nothing could be submitted: {error}") from None
            raise
        if not self.submission.wait:
            self._leave_alone()
            return
        follower.follow()
        why_not = spending_allowed(self.config, evaluations)
        for round_ in range(1, _ROUNDS):
            if follower.stopped is not None or why_not() is not None:
                break
            if not self._submit_again(follower, groups, round_):
                break
            follower.follow()
        self._say_lost(follower)
        raise_stopped(session, follower.stopped)
        reason = why_not() if follower.unreported() else None
        unavailable = "; ".join(evaluations.board.stopped_keys()) or None
        evaluations.unavailable_named = reason is None
        raise_stopped(session, reason or unavailable)

    def _say_lost(self, follower: Follower) -> None:
        if lost := follower.lost():
            others = f" and {len(lost) - 1:,} others" if len(lost) > 1 else ""
            say(
                self.config,
                f"siren: {lost[0]}{others} not tried again: too many processes died with them",
            )

    def _groups(
        self, evaluations: Evaluations, runs: Sequence[RunItem]
    ) -> list[tuple[Settings, list[RunItem]]]:
        """Return the runs by what their jobs ask the engine for."""
        from pytest_siren.distribute.cluster.settings import Settings

        found: list[tuple[Settings, list[RunItem]]] = []
        of_job: dict[int, list[RunItem]] = {}
        for run in runs:
            if id(run.job) not in of_job:
                settings = Settings.of(run.job.spec.snapshot["slurm"], self.submission)
                same = next((group for one, group in found if one == settings), None)
                if same is None:
                    same = []
                    found.append((settings, same))
                of_job[id(run.job)] = same
            of_job[id(run.job)].append(run)
        return found

    def _plan(
        self, groups: Sequence[tuple[Settings, Sequence[RunItem]]], evaluations: Evaluations
    ) -> Plan:
        from pytest_siren.session.lifecycle.begin import for_process

        given = self.config.invocation_params
        return Plan(
            session=for_process(self.config.stash[SESSION], "", own_jobs=False),
            args=[str(arg) for arg in given.args],
            cwd=str(given.dir),
            path=self.path,
            groups=[self._group(settings, runs, evaluations) for settings, runs in groups],
            worker_input=_worker_input(self.config),
        )

    def _group(
        self, settings: Settings, runs: Sequence[RunItem], evaluations: Evaluations
    ) -> Group:
        from pytest_siren.distribute.cluster.settings import default_elements
        from pytest_siren.session.execution.run_loop import window_size

        window = window_size(runs)
        folders = {run.job.identity: evaluations.recorder.job(run.job).path for run in runs}
        return Group(
            nodeids=[run.nodeid for run in runs],
            jobs={identity: str(path) for identity, path in folders.items()},
            window=window,
            elements=self.submission.elements
            or default_elements(len(runs), window, self.processes),
            processes=self.processes,
            settings=settings.plain(),
        )

    def _following(self, session: pytest.Session, plan: Plan, runs: Sequence[RunItem]) -> Follower:
        from pytest_siren.distribute.cluster.following import Elements, Follower
        from pytest_siren.distribute.cluster.presence import Presence

        assert self.state is not None
        engine = engine_named(self.submission.engine, self.store.engine)
        presence = Presence(self.store.presence, self.state.living)
        return Follower(
            session,
            self.store,
            plan,
            Elements(engine, presence, self.state, partial(_say, self.config)),
            {run.nodeid: run for run in runs},
            grace(self.config),
        )

    def _submit_array(
        self, follower: Follower, settings: Settings, group: int, elements: int, round_: int = 0
    ) -> None:
        """Submit an array for a group. Raises ``SubmitError``."""
        from pytest_siren.distribute.cluster.element import Element

        engine, cwd = follower.elements.engine, self.config.invocation_params.dir
        numbers = follower.plan.numbers(group, round_)[:elements]
        made = [Element(self.store.folder, number, self.processes, cwd) for number in numbers]
        ids = engine.submit(made, settings)
        submitted = Submitted(engine.name, group, dict(zip(numbers, ids, strict=True)))
        self.store.add_submitted(submitted)
        follower.elements.add(submitted)
        runs = counted(len(follower.left(group)), "run")
        of = f", {self.processes} processes each" if self.processes > 1 else ""
        say(
            self.config,
            f"siren: {runs} submitted to {engine.name}: {counted(elements, 'element')}{of}",
        )

    def _submit_again(
        self, follower: Follower, groups: Sequence[tuple[Settings, object]], round_: int
    ) -> bool:
        """Submit arrays for what is left, if others can succeed; tell whether there are any."""
        from pytest_siren.distribute.cluster.engines.base import SubmitError
        from pytest_siren.distribute.cluster.settings import default_elements

        submitted = follower.elements
        if submitted.broken or submitted.unwanted == submitted.failed > 0:
            return False
        again = False
        for number, (settings, _) in enumerate(groups):
            group = follower.plan.groups[number]
            if follower.left(number) and (runs := follower.executable(number)):
                elements = default_elements(runs, group.window, group.processes)
                elements = min(elements, group.elements)
                try:
                    self._submit_array(follower, settings, number, elements, round_)
                except SubmitError as error:
                    say(self.config, f"siren: what is left could not be submitted: {error}")
                    return again
                again = True
        return again

    def _leave_alone(self) -> None:
        """End the session here; the elements go on."""
        from pytest_siren.session.config.invocation import how_to_come_back

        self.detached = True
        command = how_to_come_back(self.config)
        say(self.config, f"siren: not waiting (--no-wait); come back with: {command}")

    def finish(self, jobs: Sequence[Path]) -> None:
        """Merge the indexes of ``jobs``."""
        from pytest_siren.jobs.writing.index import merge_indexes

        merge_indexes(jobs)

    def planned(self) -> Sequence[Mapping[str, Any]] | None:
        """Return ``None``: this process has collected."""
        return None

    @property
    def total(self) -> int:
        """Runs that the session is to execute."""
        evaluations = self.config.stash.get(EVALUATIONS, None)
        return 0 if evaluations is None or self.detached else evaluations.total

    @property
    def deaths(self) -> int:
        """Elements that failed while they executed runs."""
        return 0 if self._follower is None else self._follower.elements.deaths

    @property
    def unavailable(self) -> tuple[str, ...]:
        """Why no run on some models can succeed, unless the session ends with these reasons."""
        evaluations = self.config.stash.get(EVALUATIONS, None)
        if evaluations is None or evaluations.unavailable_named:
            return ()
        return tuple(evaluations.board.stopped_keys())

    def settle(self) -> None:
        """Let no further runs begin; those in flight go on."""
        if self.state is not None:
            self.state.settle()

    def drop(self, nodeids: Iterable[str]) -> None:
        """Let no process begin these runs; what one has leased already goes on."""
        if self._follower is not None:
            self._follower.drop(list(nodeids))


def _say(config: pytest.Config, line: str) -> None:
    say(config, f"siren: {line}")


@dataclass(frozen=True)
class _Node:
    """As much of a worker of xdist as plugins look at when they hand something to workers."""

    config: pytest.Config
    workerinput: dict[str, Any] = field(default_factory=dict)
    gateway: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(id="element"))


def _worker_input(config: pytest.Config) -> dict[str, Any]:
    """Return what other plugins hand to workers, such as the seed of pytest-randomly.

    What is no JSON data cannot cross to another host and is left out.
    """
    node = _Node(config)
    if (hook := getattr(config.hook, "pytest_configure_node", None)) is not None:
        hook(node=node)
    return {name: value for name, value in node.workerinput.items() if _is_plain(value)}


def _is_plain(value: object) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
