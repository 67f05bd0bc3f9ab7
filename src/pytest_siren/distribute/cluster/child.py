"""A process of an element: ``python -m pytest_siren.distribute.cluster.child FOLDER NAME [PIPE]``.

It is a pytest session that executes a part of the plan in the session's ``FOLDER``. Its exit code
is 0 when it came to its end, whatever the runs came to, else pytest's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pytest_siren.distribute.cluster import ASSIGNMENT
from pytest_siren.distribute.cluster.element import end_with_element
from pytest_siren.distribute.cluster.plan import Group, Place, Plan, PlanError, SessionStore
from pytest_siren.distribute.cluster.presence import Presence, element_of

_OFF: Mapping[str, Any] = {
    **dict.fromkeys(("lf", "failedfirst", "newfirst", "cacheclear", "cacheshow"), False),
    **dict.fromkeys(("stepwise", "stepwise_skip", "stepwise_reset"), False),
    **dict.fromkeys(("usepdb", "trace", "collectonly", "looponfail", "distload"), False),
    **dict.fromkeys(("numprocesses", "maxprocesses", "basetemp"), None),
    "dist": "no",
    "tx": [],
    "siren_only_failed": False,
    "siren_resume": [],
}
"""Options that concern the controller alone, as if they had not been given."""
_APART = ("rerunfailures", "pytest-retry", "_cov")
"""Plugins whose workers connect to the controller, for what does not concern runs. It may be on
another host, where they would fail."""
_EARLY = (
    "-W",
    "ignore:Module already imported so cannot be rewritten; pytest_siren"
    ":pytest.PytestAssertRewriteWarning",
)
"""This module is part of the plugin, which pytest would rather import itself."""
_LONGEST = 2000
"""Characters of what could not be collected."""
_DONE = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
_IN_ORDER = (*_DONE, pytest.ExitCode.INTERRUPTED)


@dataclass(eq=False)
class Assignment:
    """What a process of an element is to execute, as a plugin of its session."""

    plan: Plan
    store: SessionStore
    name: str
    presence: Presence = field(init=False)
    place: Place = field(init=False)
    items: dict[str, pytest.Item] = field(default_factory=dict)
    """All items that were collected, by node id."""
    failures: list[str] = field(default_factory=list)
    """What could not be collected."""

    def __post_init__(self) -> None:
        self.presence = Presence(self.store.presence)
        self.place = self.plan.place(element_of(self.name))

    @property
    def group(self) -> Group:
        """The runs of which it executes some."""
        return self.plan.groups[self.place.group]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> Generator[None, Any, Any]:
        """Let pytest and all plugins take this process for a worker, before any of them looks."""
        for name, value in _OFF.items():
            if hasattr(config.option, name):
                setattr(config.option, name, value)
        for name in _APART:
            if (plugin := config.pluginmanager.get_plugin(name)) is not None:
                config.pluginmanager.unregister(plugin)
        config.workerinput = {  # type: ignore[attr-defined]
            **self.plan.worker_input,
            "workerid": self.name,
            "workercount": self.plan.processes,
            "testrunuid": self.plan.session["id"],
            "mainargv": list(sys.argv),
            ASSIGNMENT: self,
        }
        config.workeroutput = {}  # type: ignore[attr-defined]
        return (yield)

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Note an item, whatever is deselected later: the controller has decided on that."""
        self.items[item.nodeid] = item

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Raise ``pytest.UsageError`` where this process lacks what it is to execute."""
        nodeids = self.group.nodeids
        missing = [nodeid for nodeid in nodeids if nodeid not in self.items]
        if self.failures or missing:
            problem = _not_collected(self.failures, missing)
            self.presence.problem(self.name, problem)
            raise pytest.UsageError(problem)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note what could not be collected."""
        if report.failed:
            self.failures.append(f"{report.nodeid}: {report.longreprtext}")


def _not_collected(failures: Sequence[str], missing: Sequence[str]) -> str:
    """Say why a process cannot execute what it is to."""
    if failures:
        return f"it could not collect what the controller has: {failures[0][-_LONGEST:]}"
    others = f" and {len(missing) - 1:,} other runs" if len(missing) > 1 else ""
    return (
        f"it did not collect {missing[0]}{others}: eval files, conftests and the environment must "
        "be the same for the controller and for elements"
    )


def main(argv: Sequence[str]) -> int:
    """Execute a part of the session; return the exit code."""
    folder, name, *pipe = argv
    if pipe:
        end_with_element(int(pipe[0]))
    store = SessionStore(Path(folder))
    try:
        plan = store.plan()
    except PlanError as error:
        sys.stderr.write(f"{error}\n")
        return pytest.ExitCode.USAGE_ERROR
    os.chdir(plan.cwd)
    sys.path[:] = plan.path
    # What plugins and tests ask for to learn which of several processes they are in.
    os.environ["PYTEST_XDIST_WORKER"] = name
    os.environ["PYTEST_XDIST_WORKER_COUNT"] = str(plan.processes)
    os.environ["PYTEST_XDIST_TESTRUNUID"] = str(plan.session["id"])
    assignment = Assignment(plan, store, name)
    code = pytest.main([*plan.args, *_EARLY], plugins=[assignment])
    if code in _IN_ORDER:
        # What it had leased and not executed, others may take, and nobody died with it.
        assignment.presence.ended(name)
    else:
        assignment.presence.gone(name)
    return 0 if code in _DONE else int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
