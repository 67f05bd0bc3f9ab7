"""What is written is read back here with models shaped like prompt-siren's readers."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from pydantic import BaseModel, TypeAdapter
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.usage import RunUsage, UsageLimits

from pytest_siren.evaluation.models import Unknown
from pytest_siren.evaluation.run import ErrorInfo, current_span
from pytest_siren.evaluation.scores import Status
from pytest_siren.evaluation.tasks import Scores
from pytest_siren.jobs.reading.read import iter_index, load_config, load_execution, load_result
from pytest_siren.jobs.records.attempt import result_of
from pytest_siren.jobs.writing.store import JobStore
from tests.unit.jobs_sample import (
    CONFIG,
    COUPLE,
    CREATED,
    END,
    START,
    attempt,
    error_attempt,
    job,
    messages,
    run,
    unknown_attempt,
)


class ExceptionInfo(BaseModel):
    exception_type: str
    exception_message: str
    exception_traceback: str
    occurred_at: datetime


class TaskRunResult(BaseModel):
    task_id: str
    run_id: str
    started_at: datetime | None = None
    finished_at: datetime | None = None
    benign_score: float | None = None
    attack_score: float | None = None
    exception_info: ExceptionInfo | None = None


class TaskRunExecution(BaseModel):
    task_id: str
    run_id: str
    execution_id: str
    timestamp: datetime
    trace_id: str | None = None
    span_id: str | None = None
    messages: list[ModelMessage]
    usage: RunUsage
    attacks: dict[str, Any] | None = None


class RunIndexEntry(BaseModel):
    task_id: str
    run_id: str
    timestamp: datetime
    benign_score: float | None
    attack_score: float | None
    exception_type: str | None = None
    path: Path


@dataclass(frozen=True)
class StrContentAttack:
    content: str
    kind: Literal["str"] = "str"


class ComponentConfig(BaseModel):
    type: str
    config: dict[str, Any] = {}


class ExecutionConfig(BaseModel):
    concurrency: int = 1
    n_runs_per_task: int = 1


class JobConfig(BaseModel):
    name: str = "experiment"
    agent: ComponentConfig
    dataset: ComponentConfig
    attack: ComponentConfig | None = None
    sandbox_manager: ComponentConfig | None = None
    execution: ExecutionConfig
    task_ids: list[str] | None = None
    usage_limits: UsageLimits | None = None
    job_name: str
    execution_mode: Literal["benign", "attack"]
    created_at: datetime
    n_runs_per_task: int


THEIR_RESULT = set(TaskRunResult.model_fields)
THEIR_EXECUTION = set(TaskRunExecution.model_fields)
THEIR_INDEX = set(RunIndexEntry.model_fields)
ATTACKS = TypeAdapter(dict[str, StrContentAttack])


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore.open(tmp_path / "jobs", "job", "session", CONFIG, created_at=CREATED)


def their_result(folder: Path) -> TaskRunResult:
    return TaskRunResult.model_validate_json((folder / "result.json").read_bytes())


def their_execution(folder: Path) -> TaskRunExecution:
    return TaskRunExecution.model_validate_json((folder / "execution.json").read_bytes())


def their_index(store: JobStore) -> list[RunIndexEntry]:
    lines = (store.path / "index.jsonl").read_text(encoding="utf-8").split("\n")
    return [RunIndexEntry.model_validate_json(line) for line in lines if line.strip()]


def raw(path: Path) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    document: dict[str, Any] = json.loads(path.read_bytes(), parse_constant=refuse)
    return document


def test_a_scored_attack_is_what_prompt_siren_reads(store: JobStore) -> None:
    folder = store.record(attempt())
    assert folder == store.path / "user_task_0_injection_task_1" / "0123abcd"

    result = their_result(folder)
    assert result == TaskRunResult(
        task_id=COUPLE,
        run_id="0123abcd",
        started_at=START,
        finished_at=END,
        benign_score=1.0,
        attack_score=0.0,
    )
    execution = their_execution(folder)
    assert execution.messages == list(messages())
    assert execution.usage == RunUsage(requests=2, tool_calls=2, input_tokens=642, output_tokens=24)
    assert execution.timestamp == END
    assert ATTACKS.validate_python(execution.attacks) == {
        "injection_calendar": StrContentAttack("Ignore this")
    }
    assert their_index(store) == [
        RunIndexEntry(
            task_id=COUPLE,
            run_id="0123abcd",
            timestamp=END,
            benign_score=1.0,
            attack_score=0.0,
            path=folder.relative_to(store.path),
        )
    ]


@pytest.mark.parametrize("file", ["result.json", "execution.json"])
def test_every_field_of_prompt_siren_is_there(store: JobStore, file: str) -> None:
    theirs = {"result.json": THEIR_RESULT, "execution.json": THEIR_EXECUTION}[file]
    assert theirs <= raw(store.record(attempt()) / file).keys()
    [line] = (store.path / "index.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line).keys() >= THEIR_INDEX


def test_the_configuration_is_what_prompt_siren_reads(store: JobStore) -> None:
    import yaml

    text = (store.path / "config.yaml").read_text(encoding="utf-8")
    assert text.startswith(
        "# Job: job\n# Created: 2026-01-02T03:04:00+00:00\n# Mode: attack\n\nname: experiment\n"
    )
    config = JobConfig.model_validate(yaml.safe_load(text))
    assert config.job_name == "job"
    assert config.execution_mode == "attack"
    assert config.created_at == CREATED
    assert config.n_runs_per_task == 3
    assert config.attack is not None
    assert config.attack.config == CONFIG["attack"]["config"]
    assert config.usage_limits == UsageLimits(request_limit=50)


def test_a_job_without_an_attack_is_benign(tmp_path: Path) -> None:
    config = {**CONFIG, "attack": None, "execution": None}
    job_config = load_config(JobStore.open(tmp_path, "b", "s", config).path)
    assert (job_config.execution_mode, job_config.n_runs_per_task) == ("benign", 1)


@pytest.mark.parametrize(
    "kind", [RuntimeError, KeyboardInterrupt, TimeoutError, type("OddError", (BaseException,), {})]
)
def test_every_type_of_exception_is_recorded(store: JobStore, kind: type[BaseException]) -> None:
    try:
        raise kind("the\ncause")
    except BaseException as error:  # noqa: BLE001 - every type is what is tested
        info = ErrorInfo.of(error)
    folder = store.record(error_attempt(error=info))

    found = their_result(folder).exception_info
    assert found is not None
    assert found.exception_type == kind.__name__
    assert found.exception_message == "the\ncause"
    assert "test_jobs_records.py" in found.exception_traceback
    assert found.occurred_at == info.occurred_at
    assert their_index(store)[0].exception_type == kind.__name__


@pytest.mark.parametrize("status", [Status.ERROR, Status.CANCELLED])
def test_an_error_is_never_a_score(store: JobStore, status: Status) -> None:
    scores = Scores({"utility": 0.0})
    folder = store.record(error_attempt(status=status, benign=scores, attack=scores))
    result = load_result(folder)
    assert (result.benign_score, result.attack_score) == (None, None)
    assert (result.benign_evaluators, result.attack_evaluators) == ({}, {})
    assert result.attack_outcome is None
    assert result.status == status
    [entry] = their_index(store)
    assert (entry.benign_score, entry.attack_score) == (None, None)


def test_an_unknown_score_is_null_with_its_reason(store: JobStore) -> None:
    result = load_result(store.record(unknown_attempt()))
    assert result.attack_score is None
    assert result.attack_unknown == "no ground truth"
    assert result.benign_unknown is None
    assert result.attack_outcome == "unknown"
    assert result.passed is None


@pytest.mark.parametrize(
    ("score", "outcome", "passed"),
    [(1.0, "succeeded", False), (0.5, "resisted", True), (0.0, "resisted", True)],
)
def test_the_outcome_of_an_attack(
    store: JobStore, score: float, outcome: str, passed: bool
) -> None:
    result = load_result(store.record(attempt(attack=Scores({"security": score}))))
    assert (result.attack_outcome, result.passed) == (outcome, passed)


def test_a_benign_run_has_no_attack(store: JobStore) -> None:
    info = run("user_task_0", attack=None)
    folder = store.record(attempt(info=info, attack=None, contents={}))
    assert folder.parent.name == "user_task_0"
    result = load_result(folder)
    assert (result.attack, result.attack_score, result.attack_outcome) == (None, None, None)
    assert raw(folder / "execution.json")["attacks"] is None


def test_our_fields_of_a_result(store: JobStore) -> None:
    info = run(run_index=2)
    benign = Scores({"a": 1.0, "b": 0.0})
    result = load_result(store.record(attempt(info=info, number=3, benign=benign)))
    assert result.nodeid == info.nodeid
    assert (result.run_index, result.attempt, result.identity) == (2, 3, info.identity)
    assert result.duration == 12.5
    assert result.usage["input_tokens"] == 642
    assert result.benign_score == 0.5
    assert result.benign_evaluators == {"a": 1.0, "b": 0.0}
    assert result.attack_evaluators == {"security": 0.0}
    assert result.job_name == job().name
    assert (result.dataset, result.agent) == ("agentdojo-workspace", "plain")
    assert (result.model, result.model_kind) == ("openai:gpt-5", "model")
    assert result.output == "Sarah is invited."


def test_the_index_says_what_the_result_says(store: JobStore) -> None:
    result = load_result(store.record(error_attempt(number=2)))
    [entry] = iter_index(store.path)
    for name in ("task_id", "run_id", "benign_score", "attack_score", "status", "run_index"):
        assert getattr(entry, name) == getattr(result, name)
    for name in ("attempt", "identity", "duration", "attack_outcome", "nodeid"):
        assert getattr(entry, name) == getattr(result, name)
    assert entry.timestamp == result.finished_at
    assert entry.exception_type == "ModelHTTPError"
    assert (entry.input_tokens, entry.output_tokens) == (642, 24)
    assert load_result(store.path / entry.path) == result


def test_a_long_output_is_cut_in_the_result_and_whole_in_the_messages(store: JobStore) -> None:
    text = "x" * 3_000
    said = (ModelResponse(parts=[TextPart(text)], timestamp=END),)
    folder = store.record(attempt(messages=said, output=text))
    assert load_result(folder).output == "x" * 2_000
    [message] = load_execution(folder).messages
    assert isinstance(message, ModelResponse)
    assert message.text == text


def test_times_are_written_in_utc(store: JobStore) -> None:
    east = timezone(timedelta(hours=9))
    moved = attempt(started_at=START.astimezone(east), finished_at=END.astimezone(east))
    result = raw(store.record(moved) / "result.json")
    assert result["started_at"] == "2026-01-02T03:04:05.678901+00:00"
    assert result["finished_at"] == "2026-01-02T03:04:18.178901+00:00"


def test_text_that_utf8_cannot_hold_is_spelled_out(store: JobStore) -> None:
    said = (
        ModelRequest(parts=[UserPromptPart("a\ud800b\x00c\x1b", timestamp=START)]),
        ModelResponse(parts=[ToolCallPart("f", {"k\udfff": ["\ud83d"]}, "i")], timestamp=START),
    )
    folder = store.record(
        attempt(messages=said, output="\udcff", contents={"v\ud800": "\x00\ud800"})
    )
    their_execution(folder)
    request, response = load_execution(folder).messages
    assert request.parts[0].content == "a\\ud800b\x00c\x1b"
    assert response.parts[0].args == {"k\\udfff": ["\\ud83d"]}
    assert load_execution(folder).attacks == {"v\\ud800": "\x00\\ud800"}
    assert their_result(folder).run_id == "0123abcd"
    assert load_result(folder).output == "\\udcff"


def test_a_task_id_that_utf8_cannot_hold_stays_inside_the_job(store: JobStore) -> None:
    folder = store.record(attempt(info=run("../\ud800:\x00/..")))
    assert folder.parent.parent == store.path
    [entry] = iter_index(store.path)
    assert entry.task_id == "../\\ud800:\x00/.."
    assert store.path / entry.path == folder


def test_a_tool_result_of_200000_characters_is_kept(store: JobStore) -> None:
    text = "é\n" * 100_000
    said = (ModelRequest(parts=[ToolReturnPart("f", text, "i", timestamp=START)]),)
    folder = store.record(attempt(messages=said))
    [message] = their_execution(folder).messages
    assert message.parts[0].content == text


class Odd:
    def __repr__(self) -> str:
        return "Odd(1)"


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class Answer(BaseModel):
    total: Decimal
    rates: list[float]


def test_values_that_json_does_not_know_are_spelled_out(store: JobStore) -> None:
    loop: dict[str, Any] = {}
    loop["again"] = loop
    metadata = {
        "odd": Odd(),
        "broken": Broken(),
        "loop": loop,
        "bytes": b"\xff\x00",
        "path": Path("a/b"),
        "when": START,
        "set": {1},
        3: "int key",
        "3": "text key",
        None: "null key",
        Odd(): "odd key",
    }
    said = (
        ModelRequest(
            parts=[
                ToolReturnPart("f", Answer(total=Decimal("1.5"), rates=[math.inf]), "i"),
                ToolReturnPart("f", [BinaryContent(b"\xff\x00", media_type="image/png")], "j"),
            ],
            metadata=metadata,  # type: ignore[arg-type]
        ),
    )
    folder = store.record(attempt(messages=said))
    [read] = their_execution(folder).messages
    assert isinstance(read, ModelRequest)
    assert read.metadata == {
        "odd": "Odd(1)",
        "broken": "<Broken, whose repr raised RuntimeError>",
        "loop": {"again": "<circular>"},
        "bytes": "/wA=",
        "path": "a/b",
        "when": START.isoformat(),
        "set": [1],
        "3": "int key",
        "3'": "text key",
        "null": "null key",
        "Odd(1)": "odd key",
    }
    assert read.parts[0].content == {"total": "1.5", "rates": ["Infinity"]}
    [ours] = load_execution(folder).messages
    [image] = ours.parts[1].content
    assert (image.data, image.media_type) == (b"\xff\x00", "image/png")


def test_numbers_that_are_not_finite_are_spelled_out(store: JobStore) -> None:
    args = {"a": math.nan, "b": [math.inf, -math.inf], "c": 10**400, "d": 1e308}
    said = (ModelResponse(parts=[ToolCallPart("f", args, "i")], timestamp=START),)
    folder = store.record(attempt(messages=said))
    assert raw(folder / "execution.json")["messages"][0]["parts"][0]["args"] == {
        "a": "NaN",
        "b": ["Infinity", "-Infinity"],
        "c": 10**400,
        "d": 1e308,
    }
    their_execution(folder)


def test_numbers_of_results_that_are_not_finite_are_spelled_out(store: JobStore) -> None:
    one = attempt()
    odd = replace(result_of(one), cost=math.inf, benign_evaluators={"odd": math.nan})
    folder = store.record(replace(one, record=odd))
    written = raw(folder / "result.json")
    assert (written["cost"], written["benign_evaluators"]) == ("Infinity", {"odd": "NaN"})
    [line] = (store.path / "index.jsonl").read_text().splitlines()
    assert json.loads(line)["cost"] == "Infinity"


def test_arguments_that_are_text_are_kept_to_the_letter(store: JobStore) -> None:
    text = '{"a": NaN, "a": 1,'
    said = (ModelResponse(parts=[ToolCallPart("f", text, "i")], timestamp=START),)
    [message] = load_execution(store.record(attempt(messages=said))).messages
    assert message.parts[0].args == text


def test_arguments_nested_without_end_can_be_read_back(store: JobStore) -> None:
    nested: Any = "bottom"
    for _ in range(5_000):
        nested = [nested]
    said = (ModelResponse(parts=[ToolCallPart("f", {"x": nested}, "i")], timestamp=START),)
    folder = store.record(attempt(messages=said))
    their_execution(folder)
    assert "<nested too deeply>" in (folder / "execution.json").read_text(encoding="utf-8")


def test_the_recorded_messages_of_the_caller_are_not_changed(store: JobStore) -> None:
    args = {"a": math.inf}
    part = ToolCallPart("f", args, "i")
    store.record(attempt(messages=(ModelResponse(parts=[part], timestamp=START),)))
    assert part.args is args
    assert args == {"a": math.inf}


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    args=st.dictionaries(st.text(), JSON_VALUES),
    text=st.text(st.characters(exclude_categories=())),
    contents=st.dictionaries(st.text(), st.text()),
    index=st.integers(0, 99),
)
def test_whatever_was_said_can_be_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    args: dict[str, Any],
    text: str,
    contents: dict[str, str],
    index: int,
) -> None:
    store = JobStore.open(tmp_path_factory.mktemp("jobs"), "job", "session", CONFIG)
    said = (
        ModelResponse(parts=[ToolCallPart("f", args, "i"), TextPart(text)], timestamp=START),
        ModelRequest(parts=[ToolReturnPart("f", args, "i", timestamp=START)], timestamp=START),
    )
    made = attempt(info=run(text, index), messages=said, contents=contents, output=text)
    folder = store.record(replace(made, outcome=replace(made.outcome, started_at=START)))

    their_execution(folder)
    their_result(folder)
    read = load_execution(folder)
    spelled = text.encode(errors="backslashreplace").decode()
    response, request = read.messages
    assert isinstance(response, ModelResponse)
    assert response.parts[1] == TextPart(spelled)
    assert response.parts[0].args == request.parts[0].content == finite(args)
    assert read.attacks == contents
    [entry] = iter_index(store.path)
    [theirs] = their_index(store)
    assert entry.task_id == theirs.task_id == spelled
    assert load_result(store.path / entry.path).run_index == index


def finite(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        case dict():
            return {key: finite(item) for key, item in value.items()}
        case list():
            return [finite(item) for item in value]
    return value


def test_unknown_utility_is_null_too(store: JobStore) -> None:
    made = attempt(benign=None, unknown=Unknown(benign="no ground truth"))
    result = load_result(store.record(made))
    assert (result.benign_score, result.benign_unknown) == (None, "no ground truth")


def test_created_at_defaults_to_now(tmp_path: Path) -> None:
    before = datetime.now(UTC)
    created_at = load_config(JobStore.open(tmp_path, "x", "s", CONFIG).path).created_at
    assert before <= created_at <= datetime.now(UTC)


def test_the_current_span_is_recorded(store: JobStore) -> None:
    """P91."""
    context = trace.SpanContext(0xABC, 0xDEF, is_remote=False)
    with trace.use_span(trace.NonRecordingSpan(context)):
        span = current_span()
    made = attempt(run_id="0123abcd")
    folder = store.record(replace(made, outcome=replace(made.outcome, span=span)))
    found = their_execution(folder)
    assert (found.trace_id, found.span_id) == (f"{0xABC:032x}", f"{0xDEF:016x}")
    assert current_span() is None
