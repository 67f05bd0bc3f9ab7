"""Marked test functions use fixtures, parameters and marks as any test does."""

from __future__ import annotations

import pytest

from tests.acceptance.conftest import Project
from tests.acceptance.test_python_evaluations import ids, shop

pytestmark = pytest.mark.inside

OWN = """
import threading

EVENTS = []

@pytest.fixture
def till(tmp_path, siren_run):
    EVENTS.append(f"open {siren_run.context.task_id}")
    yield tmp_path
    EVENTS.append(f"close {siren_run.context.task_id}")

@pytest.mark.siren(dataset=TASKS)
%sdef test_shop(siren_run, till, capsys):
    assert threading.current_thread() is threading.main_thread() or "%s"
    (till / "note").write_text(siren_run.prompt)
    print("hello")
    assert capsys.readouterr().out == "hello\\n" or "%s"
    read = siren_run.tools[0]
    return %sread()

def test_events():
    assert EVENTS == ["open opinion", "close opinion", "open short", "close short"]
"""


@pytest.mark.parametrize("kind", ["", "async "])
def test_own_fixtures_are_set_up_and_torn_down_around_each_run(project: Project, kind: str) -> None:
    shop(project, OWN % (kind, kind, kind, kind and "await "))
    project.run("evals").assert_outcomes(passed=3)
    assert len(ids(project)) == 2
    assert project.results()[0]["output"].startswith('["Good value."')


SHARED = """
import asyncio

EVENTS = []

@pytest.fixture(scope="module")
def oven():
    EVENTS.append("on")
    yield "oven"
    EVENTS.append("off")

@pytest.mark.siren(dataset=TASKS)
async def test_shop(siren_run, oven):
    EVENTS.append(siren_run.prompt)
    async with asyncio.timeout(20):
        while len(EVENTS) < 3:  # until both are there
            await asyncio.sleep(0.01)
    assert oven == "oven"
    return await siren_run.tools[0]()

def test_after(oven):
    assert EVENTS == ["on", "What do customers say?", "In short?"]
"""


def test_runs_that_share_their_fixtures_are_side_by_side(project: Project) -> None:
    shop(project, SHARED)
    project.write(
        "evals/test_last.py",
        """
        import sys

        def test_events():
            (events,) = [m.EVENTS for n, m in sys.modules.items() if n.endswith("test_shop")]
            assert events[-1] == "off"
        """,
    )
    project.run("evals/test_shop.py", "evals/test_last.py").assert_outcomes(passed=4)


MANY = """
import os

@pytest.fixture(scope="session")
def oven():
    return os.getpid()

@pytest.fixture
def till():
    return os.getpid()

@pytest.mark.siren(dataset=TASKS, runs=3)
async def test_shop(siren_run, oven):
    assert oven == os.getpid()
    return await siren_run.tools[0]()

@pytest.mark.siren(dataset=TASKS, runs=3)
def test_till(siren_run, till):
    assert till == os.getpid()
    return siren_run.tools[0]()
"""


def check_many(project: Project, *args: str) -> None:
    """Each run is executed once, by ``args``, and found by ``--lf``."""
    small = 'slurm={"mem_gb": 1, "cpus_per_task": 1, "time_minutes": 60}'
    shop(project, MANY.replace("runs=3", f"runs=3, {small}"))
    project.run("evals", *args).assert_outcomes(passed=12)
    assert len(set(ids(project))) == len(project.results()) == 12
    project.run("evals", *args, "--lf").stdout.fnmatch_lines(["recorded: 12 of 12 runs,*"])


def test_workers_set_up_what_their_runs_share(project: Project) -> None:
    pytest.importorskip("xdist")
    check_many(project, "-n2")


@pytest.mark.nightly
@pytest.mark.parametrize("engine", ["local", "dask"])
def test_elements_set_up_what_their_runs_share(project: Project, engine: str) -> None:
    check_many(project, f"--siren-executor={engine}", "--slurm-shards=2")


@pytest.mark.nightly
@pytest.mark.usefixtures("slurm")
def test_elements_of_slurm_set_up_what_their_runs_share(project: Project) -> None:
    check_many(project, "--slurm", "--slurm-shards=2")


PARAMETERS = """
@pytest.fixture
def shouted(request):
    return request.param.upper()

@pytest.mark.parametrize("tone", ["kind", "rude"])
@pytest.mark.parametrize("shouted", ["now"], indirect=True)
@pytest.mark.siren(dataset=TASKS, runs=1)
def test_loud(siren_run, tone, shouted):
    siren_run.log(f"{tone} {shouted}")
    return siren_run.tools[0]()

@pytest.mark.parametrize("tone", ["kind", "rude"])
@pytest.mark.siren(dataset=TASKS)
async def test_tone(siren_run, tone):
    siren_run.log(tone)
    return await siren_run.tools[0]()
"""


def test_parameters_make_jobs_of_their_own(project: Project) -> None:
    shop(project, PARAMETERS)
    result = project.run("evals")
    result.assert_outcomes(passed=8)
    result.stdout.fnmatch_lines(["shop | test_tone[[]kind] | no model | benign"])
    assert ids(project)[-4:] == [
        f"evals/test_shop.py::test_tone::{task}[benign-{tone}-run0]"
        for task in ("opinion", "short")
        for tone in ("kind", "rude")
    ]
    assert sorted({one["log"][0] for one in project.results()}) == [
        *("kind", "kind NOW", "rude", "rude NOW")
    ]
    one = "evals/test_shop.py::test_tone::short[benign-rude-run0]"
    project.run(one).assert_outcomes(passed=1)
    project.run("evals", "-k", "rude").assert_outcomes(passed=4, deselected=4)


LOOPS = """
import asyncio

import pytest_asyncio

@pytest_asyncio.fixture
async def client():
    yield asyncio.get_running_loop()
    asyncio.get_running_loop()

@pytest.fixture
async def line():
    yield asyncio.get_running_loop()

@pytest.mark.asyncio
@pytest.mark.siren(dataset=TASKS, model="scripted:echo")
async def test_asyncio(siren_run, client):
    from pydantic_ai import Agent
    assert client is asyncio.get_running_loop()
    said = await Agent(siren_run.model).run(siren_run.prompt)
    return await siren_run.tools[0]()

@pytest.mark.anyio
@pytest.mark.siren(dataset=TASKS)
async def test_anyio(siren_run, line):
    assert line is asyncio.get_running_loop()
    return await siren_run.tools[0]()
"""


def test_asynchronous_fixtures_share_the_loop_of_the_function(project: Project) -> None:
    shop(project, LOOPS)
    plugins = ("-p", "anyio.pytest_plugin", "-p", "pytest_asyncio.plugin")
    project.run_anew("evals", *plugins).assert_outcomes(passed=4)
    assert all(one["benign_score"] == 1.0 for one in project.results())


BROKEN = """
@pytest.fixture(scope="module")
def oven():
    print("trying")
    raise ValueError("no gas")

@pytest.fixture
def till():
    pytest.skip("no coins")

@pytest.fixture
def lamp():
    yield
    raise ValueError("no switch")

@pytest.mark.siren(dataset=TASKS)
async def test_oven(siren_run, oven):
    return "Good value"

@pytest.mark.siren(dataset=TASKS)
def test_till(siren_run, till):
    return "Good value"

@pytest.mark.siren(dataset=TASKS)
def test_lamp(siren_run, lamp):
    return "Good value"
"""


def test_fixtures_that_fail_are_shown_as_pytest_shows_them(project: Project) -> None:
    shop(project, BROKEN)
    result = project.run("evals", "-rs")
    result.assert_outcomes(passed=2, skipped=2, errors=4)
    result.stdout.fnmatch_lines(["*ERROR at setup of opinion*", "E * ValueError: no gas"])
    result.stdout.fnmatch_lines(["*ERROR at teardown of opinion*", "E * ValueError: no switch"])
    result.stdout.no_fnmatch_line("*set_up*")
    result.stdout.fnmatch_lines(["SKIPPED*no coins"])
    assert {one["task_id"] for one in project.results()} == {"opinion", "short"}
    assert len(project.results()) == 2, "without fixtures nothing is executed"
    result.stdout.fnmatch_lines(["pending: 4 of 6 runs"])


SLOW = """
import asyncio, time

@pytest.mark.siren(dataset=TASKS, timeout=0.2, task_ids=["short"])
def test_sleeping(siren_run, tmp_path):
    time.sleep(60)

@pytest.mark.siren(dataset=TASKS, timeout=0.2, task_ids=["short"])
async def test_waiting(siren_run, tmp_path):
    await asyncio.sleep(60)

@pytest.mark.siren(dataset=TASKS, task_ids=["short"])
def test_quick(siren_run, tmp_path):
    return "Good value"
"""


def test_a_function_in_the_main_thread_ends_at_its_limit(project: Project) -> None:
    shop(project, SLOW)
    result = project.run("evals")
    result.assert_outcomes(passed=1, errors=2)
    result.stdout.fnmatch_lines(["*AgentTimeoutError: the agent took longer than 0.2 s*"] * 2)
    assert result.duration < 30


def test_a_failed_assertion_is_shown_with_its_values(project: Project) -> None:
    function = """
@pytest.mark.siren(dataset=TASKS, task_ids=["short"])
def test_shop(siren_run):
    siren_run.score("brief", 0.5)
    siren_run.submit("Good value")
    prices = [1, 2]
    assert prices == [1, 3]
"""
    shop(project, function)
    result = project.run("evals")
    result.stdout.fnmatch_lines(
        [
            ">       assert prices == [[]1, 3]",
            "E       assert [[]1, 2] == [[]1, 3]",
            "evals/test_shop.py:*: AssertionError",
            "FAILED*assertion failed: test_shop.py:*: assert * == [[]1, 3]; record *",
        ]
    )
    (found,) = project.results()
    assert found["benign_evaluators"] == {"brief": 0.5, "assertions": 0.0}
    assert found["benign_score"] == 0.0
    assert "assert prices" not in project.run("evals", "--tb=no").stdout.str()


def test_an_error_is_shown_where_it_arose_in_the_users_code(project: Project) -> None:
    shop(
        project,
        """
from shopcode import sell

@pytest.mark.siren(dataset=TASKS, task_ids=["short"])
def test_shop(siren_run):
    sell()
""",
    )
    project.write("evals/shopcode.py", "import json\n\ndef sell():\n    json.loads('{')\n")
    args = ("evals", "-o", "pythonpath=evals")
    short = project.run(*args)
    short.stdout.fnmatch_lines(["ERROR * - evals/shopcode.py:4: JSONDecodeError: *; record *"])
    assert "json.loads" not in short.stdout.str()
    for more in ("-v", "--tb=short"):
        project.run(*args, more).stdout.fnmatch_lines(
            ["*sell()", "*json.loads('{')", "*evals/shopcode.py:4: JSONDecodeError: *; record *"]
        )


def test_an_unknown_fixture_is_named_once(project: Project) -> None:
    shop(project, "@pytest.mark.siren(dataset=TASKS)\ndef test_shop(siren_run, oven): ...\n")
    result = project.run("evals")
    result.stdout.fnmatch_lines(
        ["evals/test_shop.py:*: test_shop: it asks for oven, and there is no such fixture"]
    )


def test_recorded_runs_set_up_no_fixtures(project: Project) -> None:
    function = """
@pytest.fixture(scope="module")
def oven():
    with open("count", "a") as file:
        file.write("x")

@pytest.fixture
def till():
    with open("count", "a") as file:
        file.write("y")

@pytest.mark.siren(dataset=TASKS)
def test_oven(siren_run, oven):
    return "Good value"

@pytest.mark.siren(dataset=TASKS)
def test_till(siren_run, till):
    return "Good value"
"""
    shop(project, function)
    project.run("evals").assert_outcomes(passed=4)
    assert (project.path / "count").read_text() == "xyy"
    project.run("--lf").assert_outcomes(passed=4)
    assert (project.path / "count").read_text() == "xyy"
