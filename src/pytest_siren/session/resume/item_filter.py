"""Which items a session that goes on with another one takes, and what it says of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_siren.evaluation.scores import Status
from pytest_siren.jobs.reading.job_config import RecordError
from pytest_siren.jobs.reading.prompt_siren import named
from pytest_siren.jobs.records.naming import CONFIG_FILE
from pytest_siren.jobs.writing.repair import Repaired, as_it_would_be, up_to_date
from pytest_siren.jobs.writing.store import History
from pytest_siren.jobs.writing.write import claim, release
from pytest_siren.session.config.options import writes_nothing
from pytest_siren.session.config.processes import Resume, is_worker
from pytest_siren.session.config.stash import HISTORIES
from pytest_siren.session.items.job import RunItem
from pytest_siren.session.recording.recorder import RECORDER
from pytest_siren.text.words import shown

_PATIENCE = 30.0
"""Seconds to wait for processes whose session was killed."""
_LOOK = 0.1
"""Seconds between two looks at whether they have ended."""
_MOST = 5
"""Problems of a job that are named one by one."""


def catch_up(
    config: pytest.Config, resume: Resume, followed: Collection[int] = frozenset()
) -> None:
    """Bring the indexes of the resumed jobs up to date, and warn of what is wrong with them.

    To be called on the controller, before anything is collected. Takes the jobs for this session,
    and raises ``pytest.UsageError`` if another one has any of them. A session that writes nothing
    takes none, and reads what the indexes would say. ``followed`` are the ids of processes that
    execute runs of these jobs and may go on: nothing is repaired while they write.
    """
    look = as_it_would_be if writes_nothing(config) or followed else up_to_date
    histories = config.stash[HISTORIES] = {}
    for identity, path in resume.jobs.items():
        folder = Path(path)
        if not (folder / CONFIG_FILE).exists():
            continue
        try:
            if not config.option.collectonly:
                _claim(config, folder, resume.how, followed)
            found = look(folder)
            histories[identity] = History.of(named(found.entries, identity))
        except RecordError as error:
            raise pytest.UsageError(f"{resume.how}: {error}") from None
        except OSError as error:
            raise pytest.UsageError(f"{resume.how}: {folder}: {error.strerror}") from None
        rebuilt = "is to be rebuilt" if writes_nothing(config) else "was rebuilt"
        for line in _said_of(found, shown(folder, config.rootpath), rebuilt):
            config.issue_config_time_warning(pytest.PytestWarning(line), stacklevel=2)


def _claim(config: pytest.Config, folder: Path, how: str, followed: Collection[int]) -> None:
    """Take the job in ``folder``, and give it back at the end."""
    deadline = time.monotonic() + _PATIENCE
    while (writer := claim(folder, followed)) is not None:
        # Workers of a session that was killed record what they have in flight, and end.
        if not writer.orphaned or time.monotonic() > deadline:
            raise pytest.UsageError(
                f"{how}: {shown(folder, config.rootpath)} is being written by process "
                f"{writer.session if not writer.orphaned else writer.pid}, which executes its "
                "runs: wait until it has ended, or stop it, and try again"
            )
        time.sleep(_LOOK)
    config.add_cleanup(lambda: release(folder))


def _said_of(found: Repaired, name: Path, rebuilt: str) -> list[str]:
    lines = [
        f"{name / one.path.relative_to(found.job)}:{one.line}: {one.reason}"
        for one in found.torn[:_MOST]
    ]
    lines += [str(problem) for problem in found.problems[:_MOST]]
    more = len(found.torn) + len(found.problems) - len(lines)
    if more > 0:
        lines.append(f"{name}: {more} more such problems; siren jobs repair {name} lists them")
    if found.dropped or found.torn:
        lines.append(
            f"{name}: the index {rebuilt} from the records: {found.added} added, "
            f"{found.dropped} without a record dropped, {len(found.torn)} unreadable"
            + (f" ({len(found.kept)} of them left in it)" if found.kept else "")
        )
    return lines


class Resuming:
    """Keeps runs from pytest's own ``--lf``, which knows failures but no records."""

    def __init__(self, config: pytest.Config, resume: Resume) -> None:
        self._config = config
        self._resume = resume
        self._runs: list[RunItem] = []
        self._place: dict[int, int] = {}
        self._states: dict[int, str] = {}
        self._kept: Counter[int] = Counter()
        # It would leave out runs, and files, that have not failed.
        wrapper = config.pluginmanager.get_plugin("lfplugin-collwrapper")
        if wrapper is not None:
            config.pluginmanager.unregister(wrapper)
        config.pluginmanager.register(_Before(self), "siren-resuming-before")

    @property
    def runs(self) -> Sequence[RunItem]:
        """All runs that were collected and not deselected, also those that are done."""
        return self._runs

    def take(self, items: list[pytest.Item]) -> None:
        """Take the runs out of ``items``."""
        self._place = {id(item): place for place, item in enumerate(items)}
        self._runs = [item for item in items if isinstance(item, RunItem)]
        items[:] = [item for item in items if not isinstance(item, RunItem)]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None]:
        """Put the runs back where they were, those that are to be executed at least."""
        yield
        option = self._config.option
        if self._runs and (option.collectonly or option.siren_only_failed):
            left = [run for run in self._runs if self.executes(run)]
            if len(left) < len(self._runs):
                kept = {id(run) for run in left}
                gone = [run for run in self._runs if id(run) not in kept]
                self._config.hook.pytest_deselected(items=gone)
        else:
            left = self._runs
        if not items and (plugin := self._config.pluginmanager.get_plugin("lfplugin")):
            plugin._report_status = self._resume.how
        items[:] = sorted([*items, *left], key=lambda item: self._place[id(item)])

    def pytest_report_collectionfinish(self) -> list[str]:
        """Say of each job what is done and what is left."""
        quiet = self._config.get_verbosity() < 0 or writes_nothing(self._config)
        if is_worker(self._config) or quiet:
            return []
        jobs: dict[int, Counter[str]] = {}
        by_id = {id(run.job): run.job for run in self._runs}
        for run in self._runs:
            jobs.setdefault(id(run.job), Counter())[self.state(run)] += 1
            self._kept[id(run.job)] += self.state(run) not in _FIRST and not self.executes(run)
        self._states.clear()
        lines = []
        for key, counts in jobs.items():
            job = by_id[key]
            folder = self._resume.jobs.get(job.identity)
            name = f"{job.dataset.name} {job.label}" if folder is None else Path(folder).name
            first = [state for state in _FIRST if counts[state]]
            errors = sorted(counts.keys() - set(_FIRST))
            said = [f"{counts.total():,} runs"]
            said += [f"{counts[state]:,} {state}" for state in (*first, *errors)]
            if kept := self._kept[key]:
                said.append(f"{kept:,} of these errors not executed again (see --retry-on-error)")
            new = " (its configuration is new)" if folder is None else ""
            lines.append(f"{self._resume.how}: {name}{new}: {', '.join(said)}")
        return lines

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Nothing left to do is well, where what is done has been left out."""
        option = self._config.option
        none = session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED
        left_out = bool(self._runs) and (option.siren_only_failed or option.collectonly)
        if none and left_out and not is_worker(self._config):
            session.exitstatus = pytest.ExitCode.OK

    def executes(self, run: RunItem) -> bool:
        """Whether this session executes ``run``; else it reports what is recorded."""
        past_runs = self._config.stash[RECORDER].past_runs
        settled = past_runs.settled(past_runs.of(run.job.identity, run.identity))
        if settled is None:
            return run.needed
        again = settled.status == Status.SCORED
        return again and bool(self._config.getoption("siren_rerun_scored"))

    def state(self, run: RunItem) -> str:
        """Return ``scored``, ``cancelled``, ``pending``, ``not needed`` or the error's type."""
        if id(run) not in self._states:
            self._states[id(run)] = self._look(run)
        state = self._states[id(run)]
        return "not needed" if state == "pending" and not run.needed else state

    def _look(self, run: RunItem) -> str:
        past_runs = self._config.stash[RECORDER].past_runs
        past = past_runs.of(run.job.identity, run.identity)
        deciding = past.deciding
        if deciding is None:
            return "pending"
        if deciding.status == Status.ERROR:
            return deciding.exception_type or "error"
        return deciding.status


_FIRST = ("scored", "pending", "not needed", "cancelled")
"""States that are told before the types of errors."""


class _Before:
    """Acts after everything that deselects, and before ``--lf`` does."""

    def __init__(self, resuming: Resuming) -> None:
        self._resuming = resuming

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Hide the runs."""
        self._resuming.take(items)
