"""What a run's outcome and record say of rate limits."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.usage import UsageLimits

from pytest_siren.agents.plain import PlainAgent, PlainAgentConfig
from pytest_siren.evaluation.models import ModelSource, Retry, RunContext
from pytest_siren.evaluation.run import RunOutcome, RunPlan, execute
from pytest_siren.evaluation.scores import Status
from pytest_siren.evaluation.tasks import BenignTask
from pytest_siren.jobs.reading.read import load_result
from pytest_siren.jobs.writing.store import JobStore
from pytest_siren.models.api import ApiModelSource
from tests.unit.jobs_sample import CONFIG, CREATED, END, JOB_NAME, attempt
from tests.unit.limits_server import BUSY, Answer, error, governed, serving
from tests.unit.test_stage import MailEnvironment

TASK = BenignTask("mail", "Read my mail.", {"utility": lambda evidence: 1.0})


class Mails:
    name, suite, user_name, sources, couples = "mails", None, None, (), ()

    def __init__(self) -> None:
        self.environment = MailEnvironment()


def plan(model: ModelSource) -> RunPlan:
    context = RunContext("mails", None, "mail", TASK, None, None, 0)
    dataset: Any = Mails()
    return RunPlan(context, dataset, PlainAgent(PlainAgentConfig()), None, model, UsageLimits())


def outcome(answers: list[Answer], monkeypatch: pytest.MonkeyPatch) -> RunOutcome:
    async def run() -> RunOutcome:
        async with (
            serving(lambda number: answers[number]) as server,
            governed(server, monkeypatch) as source,
        ):
            return await execute(plan(source))

    return asyncio.run(run())


QUICK = replace(BUSY, headers={"retry-after": "0"})


def test_a_run_keeps_what_was_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    done = outcome([QUICK, QUICK, Answer()], monkeypatch)
    assert done.status is Status.SCORED, done.error
    assert [(retry.reason, retry.status) for retry in done.retries] == [("rate limit", 429)] * 2
    assert not done.unavailable


def test_so_does_a_run_that_ends_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    done = outcome([QUICK, error(400, None, "Invalid tool")], monkeypatch)
    assert done.status is Status.ERROR
    assert len(done.retries) == 1
    assert not done.unavailable


def test_and_one_that_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> RunOutcome:
        busy = replace(BUSY, headers={"retry-after": "60"})
        async with serving(busy) as server, governed(server, monkeypatch) as source:
            running = asyncio.create_task(execute(plan(source)))
            while not server.arrivals:
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.2)
            running.cancel()
            return await running

    done = asyncio.run(run())
    assert done.status is Status.CANCELLED
    assert [retry.status for retry in done.retries] == [429]


def test_an_outcome_tells_that_no_other_run_can_succeed(monkeypatch: pytest.MonkeyPatch) -> None:
    done = outcome([error(429, "insufficient_quota", "You exceeded your quota")], monkeypatch)
    assert done.status is Status.ERROR
    assert done.unavailable
    assert done.error is not None
    assert done.error.type == "ModelUnavailableError"
    assert "check the plan and the balance of the account at openai-chat" in done.error.message


@pytest.mark.parametrize("name", ["openai:gpt-5", "opnai:gpt-5"])
def test_so_does_a_missing_key_and_an_unknown_provider(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    done = asyncio.run(execute(plan(ApiModelSource(name))))
    assert done.unavailable
    assert done.error is not None
    assert done.error.message.startswith(f"model {name!r}: ")


def test_retries_are_recorded(tmp_path: Path) -> None:
    store = JobStore.open(tmp_path, JOB_NAME, "session", CONFIG, created_at=CREATED)
    retry = Retry(END, "rate limit", 429, 1.25)
    done = attempt(run_id="0123abcd")
    store.record(replace(done, outcome=replace(done.outcome, retries=(retry,))))
    (written,) = store.path.glob("*/0123abcd/result.json")
    assert json.loads(written.read_text())["retries"] == [
        {
            "at": "2026-01-02T03:04:18.178901+00:00",
            "reason": "rate limit",
            "status": 429,
            "waited": 1.25,
        }
    ]
    (read,) = load_result(written.parent).retries
    assert (read.at.astimezone(UTC), read.reason, read.waited) == (END, "rate limit", 1.25)
