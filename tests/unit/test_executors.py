"""Which executor a process has, and what it is told of its place in the session."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_siren.distribute.choice import Alone, executor_for
from pytest_siren.distribute.cluster import ASSIGNMENT
from pytest_siren.distribute.cluster.child import Assignment
from pytest_siren.distribute.cluster.controller import Submitting
from pytest_siren.distribute.cluster.plan import Group, Plan, SessionStore
from pytest_siren.distribute.cluster.process import ElementProcess
from pytest_siren.distribute.xdist.process import Controlling, Worker
from pytest_siren.session.config.processes import Executor, Part


class Plugins:
    """As much of pytest's plugin manager as an executor uses when it is made."""

    def __init__(self) -> None:
        self.registered: list[str] = []

    def register(self, plugin: object, name: str) -> None:
        self.registered.append(name)


def config(worker: str = "", *, collectonly: bool = False, **options: Any) -> Any:
    made = SimpleNamespace(
        getoption=lambda name, default=None: options.get(name, default),
        option=SimpleNamespace(collectonly=collectonly),
        pluginmanager=Plugins(),
    )
    if worker:
        decided = {"resume": {"jobs": {}} if options.get("resumes") else None}
        made.workerinput = {"workerid": worker, "workercount": 3, "siren_session": decided}
    return made


@pytest.mark.parametrize(
    ("given", "kind", "part"),
    [
        (config(), Alone, Part.ALONE),
        (config(dist="no"), Alone, Part.ALONE),
        (config(dist="load", tx=[]), Alone, Part.ALONE),
        (config(dist="load", tx=["popen"], collectonly=True), Alone, Part.ALONE),
        (config(dist="load", tx=["popen"]), Controlling, Part.CONTROLLER),
        (config("gw1", dist="no"), Worker, Part.WORKER),
    ],
)
def test_options_decide_on_the_executor(given: Any, kind: type[object], part: Part) -> None:
    executor = executor_for(given)
    assert type(executor) is kind
    assert executor.role.part is part


def test_elements_execute_the_runs_where_an_engine_is_named(tmp_path: Path) -> None:
    given = config(siren_executor="local", dist="load", tx=["popen"] * 3, numprocesses=3)
    given.rootpath = tmp_path
    given.option.dist = "load"
    executor = executor_for(given)
    assert isinstance(executor, Submitting)
    assert executor.role.part is Part.SUBMITTER
    assert executor.role.first
    assert executor.launcher == "local"
    # Each element has them; xdist starts none here.
    assert executor.processes == 3
    assert (given.option.dist, given.option.tx, given.option.numprocesses) == ("no", [], None)


def test_nothing_is_submitted_where_nothing_is_executed(tmp_path: Path) -> None:
    assert type(executor_for(config(siren_slurm=True, collectonly=True))) is Alone


def test_a_process_of_an_element_is_a_worker_that_is_never_the_first(tmp_path: Path) -> None:
    group = Group(["a::1"], {"id": "/jobs/one"}, window=1, elements=2, processes=2)
    plan = Plan({"id": "s1", "resume": None}, [], "/here", [], [group])
    given = config()
    assignment = Assignment(plan, SessionStore(tmp_path), "e0.0")
    given.workerinput = {"workerid": "e0.0", ASSIGNMENT: assignment}
    executor = executor_for(given)
    assert type(executor) is ElementProcess
    role = executor.role
    assert (role.part, role.name, role.first) == (Part.WORKER, "e0.0", False)
    assert role.processes == 4
    assert executor.decided == {"id": "s1", "resume": None}
    assert not executor.begins_early


def test_one_process_of_those_that_write_into_a_job_is_the_first() -> None:
    workers: list[Executor] = [Worker(config(name)) for name in ("gw0", "gw1", "gw2")]
    assert [one.role.first for one in workers] == [True, False, False]
    assert [one.role.name for one in workers] == ["gw0", "gw1", "gw2"]
    # A controller writes nothing into jobs while it has workers.
    assert not Controlling(config(dist="load")).role.first
    assert Alone(config()).role.first


def test_a_worker_knows_how_many_processes_share_limits_and_who_started_the_session() -> None:
    role = Worker(config("gw1")).role
    assert (role.processes, role.session_process) == (3, os.getppid())
    assert Alone(config()).role.processes == 1
    assert Alone(config()).role.session_process == os.getpid()


@pytest.mark.parametrize("resumes", [False, True])
def test_a_worker_begins_early_where_its_session_resumes_another(resumes: bool) -> None:
    assert Worker(config("gw0", resumes=resumes)).begins_early is resumes
    assert Worker(config("gw0")).decided == {"resume": None}


def test_every_worker_executes_all_runs_with_dist_each_only() -> None:
    assert Controlling(config(dist="each")).repeats
    assert not Controlling(config(dist="load")).repeats
