"""Odd sessions: without plugins, without a place to write, interrupted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.acceptance.conftest import Project


@pytest.mark.parametrize("plugin", ["cacheprovider", "terminal", "xdist", "junitxml", "logging"])
def test_evaluations_run_without_a_built_in_plugin(project: Project, plugin: str) -> None:
    result = project.run("evals", "-p", f"no:{plugin}")
    assert result.ret == pytest.ExitCode.OK, result.stdout.str()
    assert len(project.results()) == 2


@pytest.mark.skipif(os.getuid() != 0, reason="changes the user, which only root may")
def test_a_root_folder_that_cannot_be_written_costs_no_run(project: Project, tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    home = tmp_path_factory.mktemp("home")
    for path in (home, *home.parents):
        if path.stat().st_uid == 0 and path != path.parent:
            path.chmod(path.stat().st_mode | 0o755)
    home.chmod(0o777)
    for path in (project.path, *project.path.parents):
        if path.is_relative_to("/tmp") and path != path.parent:
            path.chmod(path.stat().st_mode | 0o055)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "evals", "-p", "no:cacheprovider"],
        cwd=project.path,
        env={**os.environ, "HOME": str(home), "TMPDIR": str(home), "PYTHONDONTWRITEBYTECODE": "1"},
        user=65534,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if "Permission denied" in done.stderr and "site-packages" in done.stderr:
        pytest.skip("another user cannot read this environment")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cannot be written" in done.stdout
    assert len(list(home.glob("pytest-siren-65534/jobs/*/*/*/result.json"))) == 2


def test_an_unwritable_folder_that_the_user_named_is_an_error_that_names_it(
    project: Project,
) -> None:
    project.write("taken", "a file, not a folder")
    result = project.run("evals", "--jobs-dir=taken/jobs")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "taken/jobs" in result.stdout.str()


def test_collect_only_creates_nothing(project: Project) -> None:
    result = project.run("evals", "--collect-only", "-q")
    assert result.ret == pytest.ExitCode.OK
    assert result.outlines[:2] == [
        "evals/eval_mail.yaml::summary[benign-scripted:echo-run0]",
        "evals/eval_mail.yaml::reply[benign-scripted:echo-run0]",
    ]
    assert not (project.path / "jobs").exists()


def test_a_session_without_evals_shows_and_loads_nothing(project: Project) -> None:
    project.write(
        "test_plain.py",
        """
        import sys

        def test_nothing_heavy_is_loaded():
            heavy = ("pandas", "pydantic", "pydantic_ai", "yaml", "rich", "jinja2", "agentdojo")
            assert [name for name in heavy if name in sys.modules] == []
        """,
    )
    project.pytester.makeconftest("")
    result = project.run("test_plain.py", "-p", "no:hypothesispytest")
    result.assert_outcomes(passed=1)
    assert "evaluations" not in result.stdout.str()


def test_ctrl_c_records_the_run_that_was_cancelled(project: Project) -> None:
    project.pytester.makeconftest(
        (project.path / "conftest.py").read_text().replace(
            'if how == "deaf":', 'if how == "slow":\n        import time; time.sleep(0)\n    if how == "deaf":'
        )
        + '''

class Sleeper(Source):
    async def bind(self, run):
        import asyncio

        async def forever(messages, info):
            Path("started").touch()
            await asyncio.sleep(600)

        return FunctionModel(forever)


def pytest_siren_components_register(registry):
    registry.add(Kind.MODEL, "sleep", Component(Config, lambda config, base: Sleeper(config.argument)))
'''
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "evals", "--model=sleep:x"],
        cwd=project.path,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (project.path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert "KeyboardInterrupt" in output
    (found,) = project.results()
    assert found["status"] == "cancelled"
    assert found["exception_info"]["exception_type"] == "CancelledError"
    (execution,) = project.executions()
    assert execution["messages"][0]["parts"][-1]["content"].startswith("Summarise this e-mail")


def test_junit_xml_holds_the_scores(distributed: Project) -> None:
    distributed.run("evals", "--attack=template_string", "--junitxml=out.xml")
    xml = (distributed.path / "out.xml").read_text()
    assert xml.count('name="siren_attack_score" value="1.0"') == 4
    assert len(re.findall(r"<failure message", xml)) == 4


def test_exit_first_stops_after_the_first_failure(project: Project) -> None:
    project.run("evals", "--attack=template_string", "-x").assert_outcomes(failed=1)
    assert len(project.results()) == 1
