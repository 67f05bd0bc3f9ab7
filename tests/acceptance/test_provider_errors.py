"""What sessions make of providers whose errors, usage and text are odd."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.acceptance.conftest import Project
from tests.acceptance.odd_server import USAGE, OddServer, Reply, Script, good, odd_server

pytestmark = pytest.mark.inside

LUNCH = """
dataset:
  type: inline
  config:
    name: lunch
    tasks:
      - id: lunch
        prompt: "When is lunch? {note}"
        vectors: {note: ""}
        evaluators: {noon: {type: contains, value: noon}}
    malicious_tasks:
      - {id: forward, goal: "say yes", evaluators: {said: {type: contains, value: "yes"}}}
agent: {type: plain}
"""
PRICES = '"openai-chat:*": {input_mtok: 1.0, output_mtok: 2.0, cache_read_mtok: 0.1}\n'


@pytest.fixture
def answering(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Script], OddServer]]:
    """Start a server that models ``openai-chat:...`` reach from now on."""
    project.write("evals/eval_mail.yaml", LUNCH)
    project.write("prices.yaml", PRICES)
    with ExitStack() as stack:

        def start(script: Script) -> OddServer:
            server = stack.enter_context(odd_server(script))
            monkeypatch.setenv("OPENAI_BASE_URL", server.url)
            monkeypatch.setenv("OPENAI_API_KEY", "a key")
            monkeypatch.setenv("NO_PROXY", "127.0.0.1")
            return server

        yield start


def errors_in_200(model: str, number: int, request: dict[str, Any]) -> Reply:
    error = {"message": "upstream is down", "code": 501}
    if model == "body":
        return 200, {}, {"error": error}
    if model == "rate" and number <= 2:
        slow = {"message": "slow down", "type": "rate_limit_exceeded", "code": 429}
        return 200, {"retry-after": "0"}, {"error": slow}
    if model == "choice":
        body = good("")
        body["choices"][0].update(finish_reason="error", error=error)
        return 200, {}, body
    return 200, {}, good(choices=[]) if model == "nochoices" else good()


def test_an_error_inside_a_200_shows_in_the_providers_words(
    project: Project, answering: Callable[[Script], OddServer]
) -> None:
    answering(errors_in_200)
    for model, words in (
        ("body", "upstream is down"),
        ("choice", "upstream is down"),
        ("nochoices", "the provider's answer has no choices but 66 tokens"),
    ):
        result = project.run("-v", "--benign", "--attack=direct", f"--model=openai-chat:{model}")
        result.assert_outcomes(errors=2)
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        assert str(result.stdout).count(words) >= 2
        for text in ("validation error", "list index", "IndexError"):
            assert text not in str(result.stdout)
    errors = {one["model"]: one for one in project.results()}
    assert "upstream is down" in errors["openai-chat:body"]["exception_info"]["exception_message"]
    assert errors["openai-chat:nochoices"]["usage"]["input_tokens"] == 50
    assert {one["status"] for one in project.results()} == {"error"}


def test_a_rate_limit_inside_a_200_is_waited_for(
    project: Project, answering: Callable[[Script], OddServer]
) -> None:
    server = answering(errors_in_200)
    project.run("--benign", "--model=openai-chat:rate").assert_outcomes(passed=1)
    assert server.seen["rate"] == 3


USAGES: dict[str, Any] = {
    "none": None,
    "negative": dict.fromkeys(USAGE, -5),
    "cached": {**USAGE, "prompt_tokens_details": {"cached_tokens": 5000}},
    "empty": {},
    "nulls": dict.fromkeys(USAGE),
    "partial": {"prompt_tokens": 50},
    "float": {**USAGE, "prompt_tokens": 50.5},
    "fine": USAGE,
}


def odd_usage(model: str, number: int, request: dict[str, Any]) -> Reply:
    if model == "nochoices":
        return 200, {}, good(choices=[])
    return 200, {}, good(usage=USAGES[model])


@pytest.mark.parametrize("model", ["none", "negative", "cached", "partial"])
def test_a_limit_of_cost_that_cannot_be_kept_stops_the_session(
    model: str, project: Project, answering: Callable[[Script], OddServer]
) -> None:
    server = answering(odd_usage)
    limit = ("--siren-prices=prices.yaml", "--siren-max-cost=0.001", "--concurrency=2")
    result = project.run("--benign", "--runs=30", *limit, f"--model=openai-chat:{model}")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert server.seen[model] <= 5
    result.stdout.fnmatch_lines(
        [f"*Interrupted: --siren-max-cost 0.001 cannot be kept: *usage*'openai-chat:{model}'*"]
    )
    assert "no price for" not in str(result.stdout)
    assert str(result.stdout).count("Warning: model") == 1


@pytest.mark.parametrize("model", ["fine", "float", "nochoices"])
def test_a_limit_of_cost_holds_for_all_that_is_billed(
    model: str, project: Project, answering: Callable[[Script], OddServer]
) -> None:
    server = answering(odd_usage)
    limit = ("--siren-prices=prices.yaml", "--siren-max-cost=0.001", "--concurrency=2")
    result = project.run("--benign", "--runs=30", *limit, f"--model=openai-chat:{model}")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    # $0.000082 each.
    assert 12 <= server.seen[model] <= 16
    result.stdout.fnmatch_lines(["*Interrupted: --siren-max-cost 0.001 reached: $0.001*"])


@pytest.mark.parametrize("model", ["none", "empty", "nulls", "partial", "float", "negative"])
def test_odd_usage_loses_no_answer(
    model: str, project: Project, answering: Callable[[Script], OddServer]
) -> None:
    answering(odd_usage)
    # Nor does it where warnings are errors.
    result = project.run("-Werror", "--benign", "--runs=5", f"--model=openai-chat:{model}")
    result.assert_outcomes(passed=5, warnings=1)
    assert result.ret == pytest.ExitCode.OK


def test_lone_surrogates_of_a_dataset_are_sent_and_recorded(
    project: Project, answering: Callable[[Script], OddServer]
) -> None:
    sent: list[str] = []

    def script(model: str, number: int, request: dict[str, Any]) -> Reply:
        sent.append(request["messages"][-1]["content"])
        body = json.dumps(good("noon HALF")).replace("HALF", "\\ud83d")
        return 200, {"content-type": "application/json"}, body

    answering(script)
    project.write(
        "evals/eval_mail.yaml",
        """
        dataset: {type: inline, config: {name: lunch, tasks_file: tasks.jsonl}}
        agent: {type: plain}
        """,
    )
    noon = {"noon": {"type": "contains", "value": "noon"}}
    task = {"id": "lunch", "prompt": "When is \ud83d lunch\0?", "evaluators": noon}
    project.write("evals/tasks.jsonl", json.dumps(task))
    result = project.run("--model=openai-chat:m")
    result.assert_outcomes(passed=1, warnings=1)
    assert sent == ["When is \ufffd lunch\ufffd?"]
    (found,) = project.results()
    assert found["output"] == "noon \ufffd"
