"""Attacks with models of their own, and hooks that watch runs, in whole sessions."""

from __future__ import annotations

import json
import re

import pytest

from tests.acceptance.conftest import Project

PAGE = re.compile(r"^```\w+ file=(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PRICES = "'*:*': {input_mtok: 1000000, output_mtok: 0}"


@pytest.fixture
def search(project: Project, request: pytest.FixtureRequest) -> Project:
    """The example of the documentation."""
    page = request.config.rootpath / "docs" / "how-to" / "adaptive_attack.md"
    (project.path / "evals" / "eval_mail.yaml").unlink()
    for name, text in PAGE.findall(page.read_text()):
        project.write(name, text)
    project.write("prices.yaml", PRICES)
    return project


@pytest.mark.inside
def test_what_an_attackers_model_used_is_shown_wherever_cost_is(search: Project) -> None:
    result = search.run(
        "evals", "--attack=search", "--siren-prices=prices.yaml", "--junit-xml=junit.xml"
    )
    (record,) = search.results()
    used = record["attackers"]["writer:v1"]
    assert used["usage"]["requests"] == 3
    assert used["cost"] == used["usage"]["input_tokens"] > 0
    total = record["cost"] + used["cost"]
    result.stdout.fnmatch_lines(
        [
            f"*cost ${total:,.4f}*",
            f"*attacker: *cost ${used['cost']:,.4f}*",
        ]
    )
    (index,) = (search.path / "jobs").rglob("index.jsonl")
    assert json.loads(index.read_text())["cost"] == total
    found = re.search(r'name="siren_cost_usd" value="([^"]+)"|cost_usd" value="([^"]+)"',
                      (search.path / "junit.xml").read_text())  # fmt: skip
    assert found is not None
    assert float(found[1] or found[2]) == total


@pytest.mark.inside
def test_the_limits_of_a_run_bind_an_attackers_model(search: Project) -> None:
    with open(search.path / "evals" / "eval_search.yaml", "a", encoding="utf-8") as file:
        file.write("usage_limits: {request_limit: 3}\n")
    search.run("evals", "--attack=search")
    (record,) = search.results()
    assert record["exception_info"]["exception_type"] == "UsageLimitExceeded"


@pytest.mark.inside
def test_an_attackers_model_without_a_price_is_refused_under_a_limit(search: Project) -> None:
    search.write("prices.yaml", "'shop:*': {input_mtok: 1, output_mtok: 1}")
    result = search.run("evals", "--siren-max-cost=1", "--siren-prices=prices.yaml")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "no price is known for the model 'writer:v1'" in str(result.stdout)


@pytest.mark.inside
def test_a_control_cannot_write_for_an_attack(search: Project) -> None:
    result = search.run("evals", "--attack=search", "--set", "attack.config.model=control:hijacked")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "'control:hijacked' is a control, which says nothing of its own" in str(result.stdout)


WATCHING = """

import asyncio


def note(line):
    with open("watched.txt", "a") as file:
        file.write(line + "\\n")


def pytest_siren_request_before(request):
    note(f"{request.run.task_id} {request.role} {request.model} asked")


def pytest_siren_request_after(response):
    async def later():
        await asyncio.sleep(0)
        note(f"{response.role} answered {response.response is not None} {response.error}")

    return later()


def pytest_siren_call_before(call):
    note(f"call {call.call.name} {call.replayed}")


def pytest_siren_call_after(outcome):
    note(f"called {outcome.call.name} {outcome.outcome.error}")


def pytest_siren_state_score(score):
    note(f"scored {score.final} {score.scores.benign_score}")
"""


@pytest.mark.inside
def test_hooks_watch_every_request_call_and_score(search: Project) -> None:
    with open(search.path / "conftest.py", "a", encoding="utf-8") as conftest:
        conftest.write(WATCHING)
    search.run("evals", "--attack=search")
    lines = (search.path / "watched.txt").read_text().splitlines()
    assert lines[:4] == [
        "hours:closed attacker writer:v1 asked",
        "attacker answered True None",
        "hours:closed agent shop:v1 asked",
        "agent answered True None",
    ]
    assert [line for line in lines if line.startswith("scored")] == [
        "scored False 1.0",
        "scored False 1.0",
        "scored False 0.0",
        "scored True 0.0",
    ]


@pytest.mark.inside
def test_hooks_watch_the_calls_of_tools(project: Project) -> None:
    with open(project.path / "conftest.py", "a", encoding="utf-8") as conftest:
        conftest.write(WATCHING)
    project.write("evals/mailtools.py", 'def read() -> str:\n    """Read."""\n    return "mail"\n')
    project.write(
        "evals/eval_mail.yaml",
        """
dataset:
  type: inline
  config:
    name: mail
    tools: ["mailtools:read"]
    tasks:
      - id: t
        prompt: Read.
        evaluators: {fine: {type: contains, value: fine}}
        ground_truth: {calls: [{name: read, arguments: {}}], output: fine}
agent: {config: {model: "control:ground-truth"}}
""",
    )
    project.run("evals")
    lines = (project.path / "watched.txt").read_text().splitlines()
    assert [line for line in lines if "call" in line] == ["call read False", "called read False"]


@pytest.mark.inside
@pytest.mark.parametrize(
    "hook",
    [
        "request_before(request)",
        "request_after(response)",
        "state_score(score)",
    ],
)
def test_what_a_watching_hook_raises_is_the_error_of_the_run(search: Project, hook: str) -> None:
    with open(search.path / "conftest.py", "a", encoding="utf-8") as conftest:
        conftest.write(f"\n\ndef pytest_siren_{hook}:\n    raise LookupError('no entry')\n")
        # The attack catches it.
        conftest.write("\n\nasync def patient(self, stage, target):\n    try:\n")
        conftest.write("        return await careless(self, stage, target)\n")
        conftest.write("    except LookupError:\n        stage.asking.observing.observers = ()\n")
        conftest.write("        return await stage.finish(await stage.begin({}))\n")
        conftest.write("\n\ncareless, Search.run = Search.run, patient\n")
    search.run("evals", "--attack=search")
    (record,) = search.results()
    assert record["status"] == "error"
    assert record["exception_info"]["exception_type"] == "LookupError"
    assert record["exception_info"]["exception_message"] == "no entry"
