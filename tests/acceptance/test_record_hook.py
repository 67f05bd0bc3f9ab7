"""Attempts are recorded by an implementation of the hook, whatever the other implementations do."""

from __future__ import annotations

import pytest

from tests.acceptance.conftest import Project

WRAPPERS = {
    "raises before": """
        raise ValueError("not today")
        yield
    """,
    "raises after": """
        yield
        raise ValueError("not today")
    """,
    "drops": """
        yield
        return None
    """,
    "replaces": """
        yield
        return [1, 2]
    """,
    "passes on": """
        return (yield)
    """,
}


def wrapper(body: str) -> str:
    return f"""
import pytest


class Around:
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_siren_attempt_record(self, attempt):
{body}


def pytest_collection_finish(session):
    session.config.pluginmanager.register(Around())
"""


@pytest.mark.inside
@pytest.mark.parametrize("how", WRAPPERS)
def test_a_plugin_around_the_records_keeps_no_attempt_from_being_recorded(
    project: Project, how: str
) -> None:
    with open(project.path / "conftest.py", "a", encoding="utf-8") as conftest:
        conftest.write(wrapper(WRAPPERS[how]))
    result = project.run("evals", "-p", "no:xdist")
    records = project.results()
    assert len(records) > 0
    if how.startswith("raises"):
        assert {one["status"] for one in records} == {"error"}
        messages = {one["exception_info"]["exception_message"] for one in records}
        assert messages == {"not today"}
        assert result.ret == pytest.ExitCode.TESTS_FAILED
    else:
        assert {one["status"] for one in records} == {"scored"}


@pytest.mark.inside
def test_attempts_are_recorded_though_the_plugin_is_taken_away(project: Project) -> None:
    project.run("evals", "-p", "no:xdist", "-p", "no:siren-records")
    assert {one["status"] for one in project.results()} == {"scored"}


@pytest.mark.inside
def test_the_record_is_written_after_all_others_are_done(project: Project) -> None:
    with open(project.path / "conftest.py", "a", encoding="utf-8") as conftest:
        conftest.write(
            """
import asyncio


def pytest_siren_attempt_record(attempt):
    async def slow():
        await asyncio.sleep(0.05)
        found = list(attempt.run.job.path.glob(f"*/{attempt.run_id}/result.json"))
        assert found == [], "recorded too early"

    return slow()
"""
        )
    project.run("evals", "-p", "no:xdist")
    assert {one["status"] for one in project.results()} == {"scored"}


@pytest.mark.inside
def test_an_error_that_cannot_change_the_record_any_more_is_a_warning(project: Project) -> None:
    body = """
        async def late():
            raise ValueError("too late")

        return [*(yield), late()]
    """
    with open(project.path / "conftest.py", "a", encoding="utf-8") as conftest:
        conftest.write(wrapper(body))
    result = project.run("evals", "-p", "no:xdist")
    assert {one["status"] for one in project.results()} == {"scored"}
    result.stdout.fnmatch_lines(["*pytest_siren_attempt_record: ValueError: too late*"])
