"""Recorded runs: what is found, what is played, and what is refused."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models import Model, ModelRequestParameters

from pytest_siren.attacks.recorded import RecordedAttack, RecordedAttackConfig
from pytest_siren.evaluation.models import STOP_AFTER, RunContext
from pytest_siren.evaluation.tasks import BenignTask
from pytest_siren.jobs.writing.store import JobStore
from pytest_siren.models.control import ControlSource
from pytest_siren.models.replay import NoRecordingError, RecordedError, ReplaySource
from pytest_siren.models.transcripts import TranscriptError, find_recordings
from pytest_siren.payloads import RunAttempt
from tests.unit.jobs_sample import CONFIG, attempt, error_attempt
from tests.unit.theirs_sample import ATTACK, TheirJob

CALL = {"function": "look", "args": {"at": "x"}, "id": None}


def log(folder: Path, messages: list[dict[str, Any]], **changes: Any) -> Path:
    """Write one AgentDojo log under ``folder``; return the pipeline's folder."""
    data = {
        "suite_name": "slack",
        "pipeline_name": "some-model",
        "user_task_id": "user_task_0",
        "injection_task_id": None,
        "attack_type": None,
        "injections": {},
        "messages": messages,
        "error": None,
        **changes,
    }
    attack, injection = data["attack_type"] or "none", data["injection_task_id"] or "none"
    pipeline = folder / str(data["pipeline_name"])
    path = pipeline / data["suite_name"] / data["user_task_id"] / attack / f"{injection}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return pipeline


def said(content: Any, *calls: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": list(calls) or None}


def tool(content: str = "result") -> dict[str, Any]:
    return {"role": "tool", "content": content, "error": None}


def context(task: str = "user_task_0", recording: str | None = None, run: int = 0) -> RunContext:
    benign = BenignTask(task.partition(":")[0], "prompt", {})
    return RunContext("agentdojo-slack", "slack", task, benign, None, recording, run, recording)


def play(source: ReplaySource, run: RunContext | None = None) -> list[ModelResponse]:
    """Return the answers, as many as an agent would ask for."""

    async def go() -> list[ModelResponse]:
        model: Model = await source.bind(run or context())
        responses: list[ModelResponse] = []
        while not responses or (responses[-1].tool_calls and not _stopped(responses[-1])):
            responses.append(await model.request([*responses], None, ModelRequestParameters()))
        return responses

    return asyncio.run(go())


def _stopped(response: ModelResponse) -> bool:
    return STOP_AFTER in (response.metadata or {})


def test_answers_come_in_their_order_and_cost_nothing(tmp_path: Path) -> None:
    pipeline = log(tmp_path, [said(None, CALL), tool(), said("done")])
    first, last = play(ReplaySource(str(pipeline), tmp_path))
    assert [part.tool_name for part in first.parts if isinstance(part, ToolCallPart)] == ["look"]
    assert last.text == "done"
    assert first.usage.total_tokens == last.usage.total_tokens == 0


@pytest.mark.parametrize("place", ["", "slack", "slack/user_task_0/none/none.json"])
def test_the_path_may_be_a_pipeline_or_anything_in_it(tmp_path: Path, place: str) -> None:
    pipeline = log(tmp_path, [said("done")])
    assert play(ReplaySource(str(pipeline / place), tmp_path))[0].text == "done"


def test_blocks_of_text_are_joined_as_agentdojo_joins_them(tmp_path: Path) -> None:
    blocks = [{"type": "thinking", "content": "hm"}, {"type": "text", "content": "done"}]
    pipeline = log(tmp_path, [said(blocks)])
    assert play(ReplaySource(str(pipeline), tmp_path))[0].text == "hm\ndone"


def test_what_a_filter_said_before_the_model_does_not_end_the_run(tmp_path: Path) -> None:
    pipeline = log(tmp_path, [said("tools: look"), said(None, CALL), tool(), said("done")])
    first, last = play(ReplaySource(str(pipeline), tmp_path))
    assert first.tool_calls
    assert first.text is None
    assert last.text == "done"


def test_calls_that_were_never_executed_end_the_run(tmp_path: Path) -> None:
    pipeline = log(tmp_path, [said(None, CALL), tool(), said("and again", CALL)])
    responses = play(ReplaySource(str(pipeline), tmp_path))
    assert [_stopped(response) for response in responses] == [False, True]


@pytest.mark.parametrize(
    "messages", [[], [said(None, CALL)], [said(None, CALL), tool()], [said("done")]]
)
def test_a_transcript_that_ended_in_an_error_replays_as_that_error(
    tmp_path: Path, messages: list[dict[str, Any]]
) -> None:
    pipeline = log(tmp_path, messages, error="status_code: 500")
    source = ReplaySource(str(pipeline), tmp_path)

    async def go() -> None:
        model = await source.bind(context())
        responses: list[ModelResponse] = []
        for _ in range(3):
            responses.append(await model.request([*responses], None, ModelRequestParameters()))

    with pytest.raises(RecordedError, match="status_code: 500"):
        asyncio.run(go())


def test_asking_for_more_than_was_recorded_is_refused(tmp_path: Path) -> None:
    source = ReplaySource(str(log(tmp_path, [said("done")])), tmp_path)

    async def go() -> None:
        model = await source.bind(context())
        await model.request([ModelResponse([TextPart("x")])], None, ModelRequestParameters())

    with pytest.raises(NoRecordingError, match="holds 1 responses; the run asked for another"):
        asyncio.run(go())


@pytest.mark.parametrize(
    "run",
    [context("user_task_1"), context(recording="direct"), context(run=1)],
    ids=["task", "attack", "run"],
)
def test_a_run_that_was_not_recorded_is_refused(tmp_path: Path, run: RunContext) -> None:
    source = ReplaySource(str(log(tmp_path, [said("done")])), tmp_path)
    with pytest.raises(NoRecordingError, match="holds no recording of"):
        play(source, run)


def test_other_contents_than_the_recorded_are_refused(tmp_path: Path) -> None:
    source = ReplaySource(str(log(tmp_path, [said("done")], injections={"a": "old"})), tmp_path)
    model: Any = asyncio.run(source.bind(context()))
    model.planted({"a": "old"})
    with pytest.raises(NoRecordingError, match="recorded with other contents in a, b"):
        model.planted({"a": "new", "b": "x"})


def test_two_pipelines_are_told_apart_by_their_folder(tmp_path: Path) -> None:
    log(tmp_path, [said("one")], pipeline_name="one")
    log(tmp_path, [said("two")], pipeline_name="two")
    with pytest.raises(NoRecordingError, match=r"2 recordings of user_task_0 \(one, two\)"):
        play(ReplaySource(str(tmp_path), tmp_path))
    assert play(ReplaySource(str(tmp_path / "two"), tmp_path))[0].text == "two"


def test_files_that_are_no_logs_are_passed_over(tmp_path: Path) -> None:
    pipeline = log(tmp_path, [said("done")])
    (pipeline / "summary.json").write_text("{}")
    (pipeline / "slack" / "user_task_0" / "none" / "notes.json").write_text("{}")
    source = ReplaySource(str(pipeline), tmp_path)
    assert source.attacks() == []
    assert play(source)[0].text == "done"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as a recording"),
        ("[]", "a JSON object was expected"),
        ('{"suite_name": "slack"}', "not an AgentDojo log"),
    ],
)
def test_a_broken_log_is_named(tmp_path: Path, text: str, message: str) -> None:
    pipeline = log(tmp_path, [said("done")])
    (pipeline / "slack" / "user_task_0" / "none" / "none.json").write_text(text)
    with pytest.raises(TranscriptError, match=message) as caught:
        play(ReplaySource(str(pipeline), tmp_path))
    assert "none.json" in str(caught.value)


def test_a_log_in_the_wrong_place_is_named(tmp_path: Path) -> None:
    pipeline = log(tmp_path, [said("done")])
    wrong = pipeline / "slack" / "user_task_7" / "none"
    wrong.mkdir(parents=True)
    (pipeline / "slack" / "user_task_0" / "none" / "none.json").rename(wrong / "none.json")
    with pytest.raises(TranscriptError, match=r"its content is of .*user_task_0.*user_task_7"):
        play(ReplaySource(str(pipeline), tmp_path), context("user_task_7"))


def test_nothing_at_the_path_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(TranscriptError, match=r"there is nothing at .*runs and .*runs"):
        ReplaySource("runs", tmp_path)


def test_the_recorded_attack_is_the_only_one_or_the_named_one(tmp_path: Path) -> None:
    attacked = {"injection_task_id": "injection_task_1"}
    pipeline = log(tmp_path, [said("done")], attack_type="direct", **attacked)
    source = ReplaySource(str(pipeline), tmp_path)
    assert RecordedAttack(RecordedAttackConfig()).recording(source) == "direct"
    log(tmp_path, [said("done")], attack_type="tool_knowledge", **attacked)
    both = ReplaySource(str(pipeline), tmp_path)
    with pytest.raises(ValueError, match=r"direct, tool_knowledge; say which with attack.config"):
        RecordedAttack(RecordedAttackConfig()).recording(both)
    assert RecordedAttack(RecordedAttackConfig(name="direct")).recording(both) == "direct"
    with pytest.raises(ValueError, match="none is 'drict'"):
        RecordedAttack(RecordedAttackConfig(name="drict")).recording(both)


def test_the_recorded_attack_needs_recordings() -> None:
    with pytest.raises(ValueError, match="needs a replay: model, not control:hijacked"):
        RecordedAttack(RecordedAttackConfig()).recording(ControlSource("hijacked"))


def test_runs_of_a_job_of_prompt_siren_are_played_by_number(tmp_path: Path) -> None:
    slack = {"type": "agentdojo", "config": {"suite_name": "slack"}}
    job = TheirJob(tmp_path / "theirs", ATTACK, slack, runs=2)
    couple = "user_task_0:injection_task_1"
    for text in ("first", "second"):
        job.record(couple, attack=1.0, texts=[text], attacks={"injection_bill": "pay"})
    job.record("user_task_1:injection_task_1", error="ModelHTTPError", attack=0.0)
    source = ReplaySource(str(job.path), tmp_path)
    assert source.attacks() == ["template_string_please"]
    for name in ("template_string_please", "please", "template_string"):
        assert [play(source, context(couple, name, run))[0].text for run in (0, 1)] == [
            *("first", "second")
        ]
    with pytest.raises(RecordedError, match="ModelHTTPError: it went wrong"):
        play(source, context("user_task_1:injection_task_1", "please"))
    with pytest.raises(NoRecordingError, match="run 2"):
        play(source, context(couple, "please", 2))


def test_binary_contents_of_theirs_are_refused(tmp_path: Path) -> None:
    job = TheirJob(tmp_path / "theirs", ATTACK)
    path = job.record("user_task_0:injection_task_1", attack=1.0) / "execution.json"
    attacks = {"picture": {"content": "aGk=", "media_type": "image/png", "kind": "binary"}}
    path.write_text(json.dumps({**json.loads(path.read_text()), "attacks": attacks}))
    [recording] = find_recordings(job.path, [])
    with pytest.raises(TranscriptError, match="'picture' is of kind 'binary': only text"):
        recording.read()


COUPLE_RUN = replace(
    context("user_task_0:injection_task_1", "template_string"), dataset="agentdojo-workspace"
)


def recorded_job(folder: Path, *attempts: RunAttempt) -> Path:
    store = JobStore.open(folder, "job", "session", CONFIG)
    for one in attempts:
        store.record(replace(one, run=replace(one.run, job=replace(one.run.job, path=store.path))))
    return store.path


def scored(text: str, run_id: str, number: int) -> RunAttempt:
    answer = ModelResponse(parts=[TextPart(text)])
    return attempt(run_id=run_id, number=number, messages=(answer,))


def first_text(root: Path) -> str:
    source = ReplaySource(str(root), root)
    [part] = source.transcript(COUPLE_RUN).responses[0].parts
    assert isinstance(part, TextPart)
    return part.content


def test_a_job_with_retried_and_killed_runs_plays_the_attempts_that_count(tmp_path: Path) -> None:
    job = recorded_job(
        tmp_path,
        error_attempt(run_id="00000003", number=1),
        scored("first score", "00000002", 2),
        scored("rerun", "00000001", 3),
    )
    killed = next(job.glob("*/00000002")).with_name("0000000a")
    killed.mkdir()
    (killed / "execution.json").write_text("{}")
    assert first_text(job) == "first score"
    # Ids are random, so neither their order nor that of the files tells which was the first.
    (job / "index.jsonl").unlink()
    assert first_text(tmp_path) == "first score"


def test_of_attempts_without_a_score_the_last_one_counts(tmp_path: Path) -> None:
    job = recorded_job(
        tmp_path,
        error_attempt(run_id="00000002", number=1, messages=()),
        error_attempt(run_id="00000001", number=2),
    )
    assert len(ReplaySource(str(job), job).transcript(COUPLE_RUN).responses) == 2


def test_the_same_run_in_two_jobs_is_still_ambiguous(tmp_path: Path) -> None:
    for name in ("a", "b"):
        recorded_job(tmp_path / name, scored(name, "00000001", 1))
    with pytest.raises(NoRecordingError, match="holds 2 recordings of user_task_0:injection"):
        first_text(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [("run_index", "0"), ("task_id", ["x"]), ("attack", {}), ("exception_info", "boom")],
)
def test_a_damaged_record_is_named_and_spares_the_other_runs(
    tmp_path: Path, field: str, value: object
) -> None:
    other = scored("other", "00000002", 1)
    job = recorded_job(
        tmp_path, scored("mine", "00000001", 1), replace(other, run=replace(other.run, run_index=1))
    )
    path = next(job.glob("*/00000002/result.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    assert first_text(job) == "mine"
    source = ReplaySource(str(job), job)
    with pytest.raises(NoRecordingError, match=rf"\(not readable: .*result.json: {field}: "):
        source.transcript(replace(COUPLE_RUN, run_index=1))
