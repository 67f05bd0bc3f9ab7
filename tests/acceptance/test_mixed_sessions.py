"""Runs and ordinary tests in one session."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tests.acceptance.conftest import Project
from tests.acceptance.slow import eval_file

pytestmark = pytest.mark.inside

TESTS = """
import asyncio

import pytest


@pytest.fixture(scope="session")
def shared(request):
    with open("shared.txt", "a") as file:
        file.write("up\\n")
    yield
    with open("shared.txt", "a") as file:
        file.write("down\\n")


def test_plain(shared):
    pass


@pytest.mark.asyncio
async def test_async(shared):
    await asyncio.sleep(0.01)


def test_own_loop(shared):
    asyncio.run(asyncio.sleep(0.01))


def test_fails(shared):
    assert 1 == 2
"""


def test_ordinary_tests_run_as_ever_beside_runs(distributed: Project) -> None:
    distributed.write("evals/test_before.py", TESTS)
    distributed.write("evals/zz/test_after.py", "def test_after(shared):\n    pass\n")
    distributed.write("evals/zz/conftest.py", "from test_before import shared\n")
    distributed.write(
        "pytest.ini",
        "[pytest]\nasyncio_default_fixture_loop_scope = function\npythonpath = evals\n",
    )
    result = distributed.run("evals", "-p", "asyncio", "--junitxml", "junit.xml")
    result.assert_outcomes(passed=6, failed=1)
    result.stdout.fnmatch_lines(["*assert 1 == 2*", "FAILED evals/test_before.py::test_fails*"])
    suite = ElementTree.parse(distributed.path / "junit.xml").getroot()[0]
    assert len(suite.findall("testcase")) == 7


def test_fixtures_that_tests_share_outlive_the_runs_between_them(project: Project) -> None:
    project.write("evals/conftest.py", TESTS.split("def test_plain")[0])
    project.write("evals/a/test_a.py", "def test_a(shared):\n    pass\n")
    project.write("evals/z/test_z.py", "def test_z(shared):\n    pass\n")
    mail = (project.path / "evals/eval_mail.yaml").read_text()
    (project.path / "evals/eval_mail.yaml").unlink()
    project.write("evals/m/eval_mail.yaml", mail)
    result = project.run("evals", "-p", "no:xdist", "-v")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["*test_a PASSED*", "*eval_mail.yaml*PASSED*", "*test_z PASSED*"])
    assert (project.path / "shared.txt").read_text() == "up\ndown\n"


def test_runs_of_several_folders_may_end_in_any_order(slow: Project) -> None:
    slow.write("evals/a/eval_x.yaml", eval_file({"soon": 0.0, "late": 1.0}))
    slow.write("evals/b/eval_x.yaml", eval_file({"between": 0.4}))
    slow.write("tests/test_one.py", "def test_one():\n    pass\n")
    result = slow.run("tests", "evals", "-p", "no:xdist", "--concurrency=8")
    result.assert_outcomes(passed=4)


def test_a_session_without_evals_is_left_alone(distributed: Project) -> None:
    distributed.write("test_only.py", "def test_one():\n    pass\n")
    result = distributed.run("test_only.py")
    result.assert_outcomes(passed=1)
    assert not distributed.jobs()
    result.stdout.no_fnmatch_line("*pending*")


def test_tests_beside_runs_keep_their_own_filters_of_warnings(project: Project) -> None:
    """All warnings of runs are caught; a test's are filtered as without runs."""
    project.write(
        "evals/test_leak.py",
        "import warnings\n\n\ndef test_leak():\n"
        "    assert ('always', Warning) not in [(one[0], one[2]) for one in warnings.filters]\n",
    )
    project.run("evals", "-p", "no:xdist").assert_outcomes(passed=3)
