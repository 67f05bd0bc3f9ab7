"""What code of a run raises is an error of that run, wherever and whatever it is."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pytest_siren.session.execution.run_loop import Drive
from tests.acceptance.conftest import Project

FAILURES = """
import asyncio
import sys

import pytest


class OddError(BaseException):
    pass


def raising(error):
    def fail():
        raise error

    return fail


FAILURES = {
    "SystemExit": lambda: sys.exit(0),
    "KeyboardInterrupt": raising(KeyboardInterrupt()),
    "GeneratorExit": raising(GeneratorExit()),
    "CancelledError": raising(asyncio.CancelledError()),
    "Skipped": lambda: pytest.skip("no network"),
    "Failed": lambda: pytest.fail("too short"),
    "Exit": lambda: pytest.exit("enough", returncode=0),
    "XFailed": lambda: pytest.xfail("known"),
    "BaseExceptionGroup": raising(BaseExceptionGroup("both", [SystemExit(1), OddError()])),
    "OddError": raising(OddError("odd")),
}
"""
NAMES = (
    *("SystemExit", "KeyboardInterrupt", "GeneratorExit", "CancelledError", "Skipped", "Failed"),
    *("Exit", "XFailed", "BaseExceptionGroup", "OddError"),
)
TOLD = {"SystemExit", "Exit"}
"""What a tool may raise as its answer to the model."""
PLACES = """
import asyncio

from failures import FAILURES


def tool(how: str) -> str:
    FAILURES[how]()


async def async_tool(how: str) -> str:
    await asyncio.create_task(later(how))


async def later(how):
    FAILURES[how]()


def judge(evidence, how):
    FAILURES[how]()


async def async_judge(evidence, how):
    FAILURES[how]()
"""
COMPONENTS = """
from pydantic import BaseModel
from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.models.function import FunctionModel

from failures import FAILURES
from pytest_siren import Component, Kind, ModelKind, StaticAttack, Unknown


class Config(BaseModel):
    argument: str = ""


class Planter(StaticAttack):
    def contents(self, target):
        place, _, name = target.couple.benign.id.partition("-")
        if place == "attack":
            FAILURES[name]()
        return {"note": "ZEPPELIN"}


class Source:
    kind = ModelKind.MODEL
    id = label = spoken_name = "failing"

    async def bind(self, run):
        def answer(messages, info):
            place, _, name = run.benign.id.partition("-")
            if place == "model":
                FAILURES[name]()
            return ModelResponse([TextPart("fine")])

        return FunctionModel(answer)

    def unknown(self, run):
        return Unknown()


def pytest_siren_components_register(registry):
    registry.add(Kind.ATTACK, "planter", Component(Config, lambda config, base: Planter()))
    registry.add(Kind.MODEL, "failing", Component(Config, lambda config, base: Source()))


def pytest_siren_run_start(run):
    place, _, name = run.task_id.partition(":")[0].partition("-")
    if place == "start":
        FAILURES[name]()


def pytest_siren_attempt_record(attempt):
    place, _, name = attempt.run.task_id.partition(":")[0].partition("-")
    if place == "record":
        FAILURES[name]()
    if place == "awaited":

        async def wait():
            FAILURES[name]()

        return wait()
"""


def task(place: str, name: str) -> str:
    vectors = 'vectors: {note: ""}, ' if place == "attack" else ""
    prompt = "do {note}" if place == "attack" else "do"
    evaluator = "{type: contains, value: fine}"
    if place in ("judge", "async_judge"):
        evaluator = f"{{type: python, path: 'places:{place}', config: {{how: {name}}}}}"
    calls = ""
    if place in ("tool", "async_tool"):
        calls = f"calls: [{{name: {place}, arguments: {{how: {name}}}}}], "
    return (
        f'      - {{id: {place}-{name}, prompt: "{prompt}", {vectors}'
        f"evaluators: {{e: {evaluator}}}, ground_truth: {{{calls}output: fine}}}}"
    )


def failing_evals(project: Project) -> None:
    """Write an eval file for each model, with a task for each place and exception."""
    (project.path / "evals/eval_mail.yaml").unlink()
    project.write("failures.py", FAILURES)
    project.write("evals/failures.py", FAILURES)
    project.write("evals/places.py", PLACES)
    project.write("conftest.py", COMPONENTS)
    files = {
        "control": ("tool", "async_tool", "judge", "async_judge", "start", "record", "awaited"),
        "model": ("model",),
        "attack": ("attack",),
    }
    for name, places in files.items():
        tasks = [task(place, one) for place in places for one in NAMES]
        model = "control:ground-truth" if name == "control" else "failing:x"
        lines = [
            *("dataset:", "  type: inline", "  config:", f"    name: {name}"),
            *(["    tools: ['places:tool', 'places:async_tool']"] if name == "control" else []),
            *("    tasks:", *tasks),
        ]
        if name == "attack":
            lines += [
                "    malicious_tasks:",
                "      - {id: m, goal: g, evaluators: {e: {type: contains, value: ZEPPELIN}}}",
                "attack: {type: planter}",
            ]
        project.write(
            f"evals/eval_{name}.yaml",
            "\n".join([*lines, f"agent: {{config: {{model: '{model}'}}}}", ""]),
        )


@pytest.mark.inside
@pytest.mark.parametrize(
    "args",
    [["-p", "no:xdist"], pytest.param(["-n2"], marks=pytest.mark.nightly)],
    ids=["alone", "n2"],
)
def test_every_exception_in_every_place_is_one_error(project: Project, args: list[str]) -> None:
    failing_evals(project)
    result = project.run("evals", *args)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    results = project.results()
    assert len(results) == 9 * len(NAMES)
    lines = {
        line.partition("::")[2].partition("[")[0].partition(":")[0]: line
        for line in result.outlines
        if line.startswith("ERROR evals/")
    }
    for one in results:
        place, _, name = one["task_id"].partition(":")[0].partition("-")
        if (place == "tool" and name in TOLD) or (place == "async_tool" and name in TOLD):
            assert one["status"] == "scored", one["task_id"]
            continue
        assert one["status"] == "error", one["task_id"]
        assert one["exception_info"]["exception_type"] == name
        assert re.search(rf" - (\S+\.py:\d+: )?{name}", lines[f"{place}-{name}"])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    result.stdout.no_fnmatch_line("*pending*")


@pytest.mark.inside
@pytest.mark.parametrize("place", ["build", "register"])
@pytest.mark.parametrize("name", ["SystemExit", "KeyboardInterrupt", "Skipped", "Exit"])
def test_what_a_component_raises_when_it_is_built_is_a_collection_error(
    project: Project, place: str, name: str
) -> None:
    project.write("failures.py", FAILURES)
    project.write(
        "conftest.py",
        f"""
        from pydantic import BaseModel

        from failures import FAILURES
        from pytest_siren import Component, Kind


        class Config(BaseModel):
            pass


        def pytest_siren_components_register(registry):
            if "{place}" == "register":
                FAILURES["{name}"]()
            build = lambda config, base: FAILURES["{name}"]()
            registry.add(Kind.ATTACK, "broken", Component(Config, build))
        """,
    )
    (project.path / "evals/eval_mail.yaml").write_text(
        (project.path / "evals/eval_mail.yaml")
        .read_text()
        .replace("scripted:echo", "control:ground-truth")
    )
    result = project.run("evals", "-p", "no:xdist", "--attack", "broken")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    where = "pytest_siren_components_register" if place == "register" else "evals/eval_mail.yaml"
    result.stdout.fnmatch_lines([f"{where}: {name}*", "*1 error during collection*"])


@pytest.mark.inside
@pytest.mark.parametrize("raised", ["RuntimeError('full')", "SystemExit(0)", "KeyboardInterrupt()"])
def test_a_hook_that_cannot_take_a_report_fails_the_session(project: Project, raised: str) -> None:
    with open(project.path / "conftest.py", "a", encoding="utf-8") as conftest:
        conftest.write(f"\n\ndef pytest_siren_run_report(report):\n    raise {raised}\n")
    result = project.run("evals", "-p", "no:xdist")
    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    name = raised.partition("(")[0]
    result.stdout.fnmatch_lines([f"the session fails: pytest_siren_run_report: {name}*(2 times)"])


@pytest.mark.inside
def test_no_session_succeeds_whose_runs_did_not_all_end(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a fault of the run loop's own would lose them."""
    report = Drive._report

    def lose(self: Drive, item: Any, ended: Any) -> None:
        if "reply" not in item.name:
            report(self, item, ended)

    monkeypatch.setattr(Drive, "_report", lose)
    result = project.run("evals", "-p", "no:xdist")
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*1 run, recorded, not shown here"])


@pytest.mark.inside
def test_runs_that_a_plugin_skips_do_not_fail_the_session(project: Project) -> None:
    with open(project.path / "conftest.py", "a", encoding="utf-8") as conftest:
        conftest.write(
            "\n\nimport pytest\n\n\ndef pytest_runtest_setup(item):\n"
            '    if "reply" in item.name:\n        pytest.skip("not today")\n'
        )
    result = project.run("evals", "-p", "no:xdist")
    result.assert_outcomes(passed=1, skipped=1)
    assert result.ret == pytest.ExitCode.OK


def test_a_plugin_that_fails_at_the_end_does_not_keep_the_process(project: Project) -> None:
    with open(project.path / "conftest.py", "a", encoding="utf-8") as conftest:
        conftest.write(
            "\n\nimport pytest\n\n\n@pytest.hookimpl(tryfirst=True)\n"
            "def pytest_sessionfinish():\n    raise RuntimeError('the report server is gone')\n"
        )
    result = project.run("evals", "-p", "no:xdist")
    assert result.ret != pytest.ExitCode.OK
    assert "the report server is gone" in result.stderr.str()
    assert [one["status"] for one in project.results()] == ["scored", "scored"]


HANGING = """
import asyncio
import time


def hang() -> str:
    time.sleep(1000)


async def swallow() -> str:
    while True:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            pass


def quick() -> str:
    return "done"
"""


def test_tools_that_hang_are_abandoned_and_harm_no_other_run(project: Project) -> None:
    project.write("evals/hanging.py", HANGING)
    tools = {f"hang{i}": "hang" for i in range(40)} | {"swallow": "swallow"}
    tools |= {f"quick{i}": "quick" for i in range(4)}
    tasks = "".join(
        f"      - {{id: {name}, prompt: go, evaluators: [{{type: contains, value: fin}}], "
        f"ground_truth: {{calls: [{{name: {tool}}}], output: fin}}}}\n"
        for name, tool in tools.items()
    )
    project.write(
        "evals/eval_mail.yaml",
        "dataset:\n  type: inline\n  config:\n    name: hanging\n"
        f"    tools: ['hanging:hang', 'hanging:swallow', 'hanging:quick']\n    tasks:\n{tasks}"
        "agent: {config: {model: 'control:ground-truth'}}\n",
    )
    result = project.run(
        "evals", "-p", "no:xdist", "--siren-run-timeout", "1", "--concurrency", "14"
    )
    result.assert_outcomes(passed=4, errors=41)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["abandoned: 41 calls of tools or other code that did not end*"])
    result.stdout.fnmatch_lines(["*RunTimeoutError: the run took longer than 1 s*abandoned*"])
    assert "Traceback" not in result.stderr.str()
