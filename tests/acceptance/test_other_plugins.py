"""Evaluations beside other pytest plugins: the same results, and no score that is drawn again."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import pytest

from pytest_siren.cli.main import main
from tests.acceptance.conftest import Project

pytestmark = pytest.mark.inside

FLIP = """
from pathlib import Path

def flip(messages):
    obeys = len(Path("asked.txt").read_text()) == 1
    return [TextPart(last_prompt(messages) if obeys else "I will not.")]
"""
MIXED = """
def mixed(messages):
    prompt = last_prompt(messages)
    if "report" in prompt and "ZEPPELIN" in prompt:
        raise RuntimeError("the model is on fire")
    return [TextPart(prompt if "report" in prompt else "noon")]
"""
PLAIN = """
def test_passes():
    pass

def test_fails():
    assert 0
"""
SECOND = """
def test_second():
    with open("tries.txt", "a+") as tries:
        tries.write("x")
        tries.seek(0)
        assert len(tries.read()) > 1
"""
OWN_LOOP = """
import pytest

@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    try:
        return (yield)
    except BaseException:
        return item.runtest()
"""
SLOW = """
dataset:
  type: inline
  config:
    tasks:
      - {id: quick, prompt: "Wait 0", evaluators: {any: {type: contains, value: Wait}}}
      - {id: stuck, prompt: "Wait 60", evaluators: {any: {type: contains, value: Wait}}}
agent: {config: {model: "slow:x"}}
"""
RERUNS = {
    "rerunfailures": ["-p", "rerunfailures", "--reruns=2"],
    "flaky": ["-p", "flaky", "--force-flaky", "--max-runs=3"],
    "retry": ["-p", "pytest-retry", "--retries=2"],
    "repeat": ["-p", "repeat", "--count=3"],
}


BESIDE = {
    "rerunfailures": ["-p", "rerunfailures", "--reruns=2"],
    "randomly": ["-p", "randomly", "--randomly-seed=3"],
    "timeout": ["-p", "timeout", "--timeout=60"],
    "sugar": ["-p", "sugar", "--force-sugar"],
    "html": ["-p", "metadata", "-p", "html", "--html=page.html", "--self-contained-html"],
    "cov": ["-p", "pytest_cov", "--cov=.", "--cov-report="],
}


@dataclass(frozen=True)
class Seen:
    """What a session came to, on every surface that does not depend on time and chance."""

    exit_code: int
    tests: dict[str, str]
    attempts: list[tuple[object, ...]]
    results: list[dict[str, Any]]
    gates: list[str]


def _seen(project: Project, capsys: pytest.CaptureFixture[str], *args: str) -> Seen:
    shutil.rmtree(project.path / "jobs", ignore_errors=True)
    result = project.run("--junitxml=junit.xml", *args)
    shown = result.stdout.str()
    cases = ElementTree.parse(project.path / "junit.xml").iter("testcase")
    return Seen(
        int(result.ret),
        {f"{case.get('classname')}::{case.get('name')}": _outcome(case) for case in cases},
        [
            tuple(one[name] for name in ("task_id", "attempt", "status", "passed", "attack_score"))
            for one in project.results()
        ],
        _results(project, capsys),
        re.findall("^(?:HELD|BROKEN|INCONCLUSIVE) .*$", shown, re.MULTILINE),
    )


def _outcome(case: ElementTree.Element) -> str:
    properties = {one.get("name"): one.get("value") for one in case.iter("property")}
    ended = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
    return " ".join([*ended, *(f"{name}={properties.get(name)}" for name in _PROPERTIES)])


_PROPERTIES = ("status", "attack_score", "attempt", "recorded")


def _results(project: Project, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return the rows of ``siren results``, without what takes time."""
    capsys.readouterr()
    assert main(["results", f"--jobs-dir={project.path / 'jobs'}", "--format=json"]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return rows


@pytest.mark.parametrize("plugin", BESIDE)
def test_results_are_the_same_with_and_without_each_plugin(
    project: Project, capsys: pytest.CaptureFixture[str], plugin: str
) -> None:
    project.use_model("mixed", MIXED)
    project.write("test_plain.py", PLAIN)
    args = ["--attack=template_string", "--gate=asr <= 0.9", "--gate-on=point"]
    without = _seen(project, capsys, *args)
    assert without.exit_code == pytest.ExitCode.TESTS_FAILED
    assert len(without.tests) == 6
    assert len(without.gates) == 1
    assert {status for _, _, status, *_ in without.attempts} == {"scored", "error"}
    assert _seen(project, capsys, *args, *BESIDE[plugin]) == without


@pytest.mark.parametrize("plugin", [*RERUNS, "a conftest"])
def test_the_first_score_counts_whatever_repeats_tests(
    project: Project, capsys: pytest.CaptureFixture[str], plugin: str
) -> None:
    if plugin == "a conftest":
        conftest = project.path / "conftest.py"
        conftest.write_text(conftest.read_text() + OWN_LOOP)
    _first_score_counts(project, capsys, RERUNS.get(plugin, []))


def test_the_first_score_counts_on_workers_too(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    _first_score_counts(project, capsys, [*RERUNS["rerunfailures"], "-n2"])


def _first_score_counts(
    project: Project, capsys: pytest.CaptureFixture[str], args: list[str]
) -> None:
    project.use_model("flip", FLIP)
    project.write("test_second.py", SECOND)
    chosen = ["--attack=template_string", "--task-ids=summary:advert"]
    gate = ["--gate", "asr <= 0.05", "--gate-on=point"]
    result = project.run("evals", "test_second.py", "-v", *chosen, *gate, *args)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*HIJACKED*", "  ASR * 1.000 *", "BROKEN asr <= 0.05  1.000*"])
    assert project.asked() == 1
    assert [one["attempt"] for one in project.results()] == [1]
    assert [row["asr"] for row in _results(project, capsys)] == [1.0]
    # The plugin has done with an ordinary test what it is for.
    assert len((project.path / "tries.txt").read_text()) == (3 if "--count=3" in args else 2)


def test_a_tag_named_flaky_does_not_repeat_a_run(project: Project) -> None:
    project.use_model("flip", FLIP)
    eval_file = project.path / "evals/eval_mail.yaml"
    eval_file.write_text(eval_file.read_text() + "tags: [flaky]\n")
    args = ["--attack=template_string", "--task-ids=summary:advert", "-m", "flaky"]
    result = project.run("evals", *args, "-p", "rerunfailures")
    result.assert_outcomes(failed=1)
    assert project.asked() == 1


def test_a_run_in_error_is_left_to_lf(project: Project) -> None:
    project.use_model("mixed", MIXED)
    args = ["evals", "--attack=template_string", "--task-ids=reply:advert"]
    for attempt in (1, 2):
        result = project.run(*args, *RERUNS["rerunfailures"])
        result.assert_outcomes(errors=1)
        assert {one["attempt"] for one in project.results()} == {*range(1, attempt + 1)}
        args = ["--lf"]


@pytest.mark.parametrize("method", ["signal", "thread"])
@pytest.mark.parametrize("where", ["option", "ini", "environment"])
def test_the_limit_of_pytest_timeout_holds_for_runs(
    slow: Project, monkeypatch: pytest.MonkeyPatch, where: str, method: str
) -> None:
    args = ["-p", "timeout", f"--timeout-method={method}"]
    ini = "[pytest]\n"
    if where == "option":
        args.append("--timeout=0.3")
    elif where == "ini":
        ini += "timeout = 0.3\n"
    else:
        monkeypatch.setenv("PYTEST_TIMEOUT", "0.3")
    slow.write("pytest.ini", ini)
    slow.write("evals/eval_slow.yaml", SLOW)
    result = slow.run("evals", *args)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        [
            "ERROR *RunTimeoutError: the run took longer than 0.3 s (the limit of pytest-timeout; "
            "--siren-run-timeout sets one for runs)*"
        ]
    )


def test_a_limit_for_runs_wins_over_that_of_pytest_timeout(slow: Project) -> None:
    slow.write("evals/eval_slow.yaml", SLOW.replace("Wait 60", "Wait 0.4"))
    args = ["-p", "timeout", "--timeout=0.2", "--siren-run-timeout=60"]
    slow.run("evals", *args).assert_outcomes(passed=2)
    slow.run("evals", "-p", "timeout", "--timeout=0").assert_outcomes(passed=2)
