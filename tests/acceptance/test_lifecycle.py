"""Parts of every kind are warmed up, opened for each run and closed, however a session ends."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml

from pytest_siren.jobs.records.naming import CONFIG_FILE
from tests.acceptance.conftest import Project, with_workers

PARTS = """
import asyncio
import os
from contextlib import asynccontextmanager

from pydantic import BaseModel
from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.models.function import FunctionModel

from pytest_siren import (
    BenignTask, Component, Couple, Kind, MaliciousTask, ModelKind, Prompt, Source, StaticAttack,
    Unknown,
)
from pytest_siren.agents.plain import PlainAgent, PlainAgentConfig

FAILS = os.environ.get("FAILS", "").split()


def note(*words):
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(" ".join([str(os.getpid()), *words]) + "\\n")
    if list(words[:2]) == FAILS:
        raise ConnectionError("no route")


class Noting:
    part = "?"

    def warm(self):
        note(self.part, "warm")

    @asynccontextmanager
    async def open_run(self, run):
        note(self.part, "open", run.task_id)
        try:
            yield
        finally:
            note(self.part, "left", run.task_id)

    async def aclose(self):
        await asyncio.sleep(0)
        note(self.part, "aclose")


class Model(Noting):
    part, kind, id, label, spoken_name = "model", ModelKind.MODEL, "noting:x", "noting:x", "N"

    async def bind(self, run):
        async def answer(messages, info):
            note("model", "asked")
            if os.environ.get("WAITS"):
                await asyncio.sleep(60)
            return ModelResponse([TextPart("noon")])

        return FunctionModel(answer)

    def unknown(self, run):
        return Unknown()


class Agent(Noting, PlainAgent):
    part = "agent"

    async def warm(self):
        await asyncio.sleep(0.01)
        note("agent", "warm")


class Attack(Noting, StaticAttack):
    part = "attack"

    def contents(self, target):
        return {"note": "x"}


class Judge(Noting):
    part = "evaluator"

    def __call__(self, evidence):
        note("evaluator", "judges")
        return float("noon" in evidence.output)


class Environment(Noting):
    part, vectors = "environment", {"note": ""}

    def tools(self, task):
        return []

    @asynccontextmanager
    async def open(self, task, contents):
        yield dict(contents)

    def prompt(self, state, task):
        return Prompt(task.prompt + state.get("note", ""))


class Dataset(Noting):
    part, name, suite, user_name = "dataset", "noted", None, "Ada"

    def __init__(self):
        judge = Judge()
        self.environment = Environment()
        self.benign_tasks = [
            BenignTask(f"t{number}", "When?", {"noon": judge, "again": judge})
            for number in range(3)
        ]
        self.malicious_tasks = [MaliciousTask("m", "say no", {"no": lambda evidence: 0.0})]
        self.couples = [Couple(task, self.malicious_tasks[0]) for task in self.benign_tasks]


class Named(BaseModel):
    argument: str


class Nothing(BaseModel):
    pass


for noting in Noting.__subclasses__():
    if noting.part == os.environ.get("DEPENDS"):
        noting.sources = (Source("text", os.environ["TEXT"]),)


def pytest_siren_components_register(registry):
    registry.add(Kind.MODEL, "noting", Component(Named, lambda config, base: Model()))
    registry.add(Kind.AGENT, "noting", Component(PlainAgentConfig, lambda c, base: Agent(c)))
    registry.add(Kind.DATASET, "noting", Component(Nothing, lambda config, base: Dataset()))
    registry.add(Kind.ATTACK, "noting", Component(Nothing, lambda config, base: Attack()))
"""
EVAL = """
dataset: {type: noting}
agent: {type: noting, config: {model: "noting:x"}}
attacks: {noting: {type: noting}}
"""
KINDS = {"model", "dataset", "environment", "evaluator", "agent", "attack"}


@pytest.fixture
def noting(distributed: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("NOTES", str(distributed.path / "notes.txt"))
    distributed.write("conftest.py", PARTS)
    (distributed.path / "evals/eval_mail.yaml").unlink()
    distributed.write("evals/eval_noting.yaml", EVAL)
    return distributed


def notes(project: Project) -> dict[str, list[list[str]]]:
    """Return what was noted, by process."""
    found: dict[str, list[list[str]]] = {}
    for line in (project.path / "notes.txt").read_text().splitlines():
        process, *words = line.split()
        found.setdefault(process, []).append(words)
    return found


def check(project: Project, *, runs: int | None = None) -> None:
    """Check that every process opened and closed what it should, in a sensible order."""
    opened: Counter[str] = Counter()
    for noted in notes(project).values():
        count = Counter(tuple(words[:2]) for words in noted)
        for kind in KINDS:
            assert count[kind, "warm"] == count[kind, "aclose"] == 1, (kind, noted)
            assert count[kind, "open"] == count[kind, "left"], (kind, noted)
            opened[kind] += count[kind, "open"]
        stages = [words[1] for words in noted]
        if "open" in stages:
            last_warm = len(stages) - 1 - stages[::-1].index("warm")
            assert last_warm < stages.index("open")
            last_left = len(stages) - 1 - stages[::-1].index("left")
            assert last_left < stages.index("aclose")
            closed = [words[0] for words in noted if words[1] == "aclose"]
            assert closed.index("environment") < closed.index("dataset")
    assert len(set(opened.values())) == 1, opened
    if runs is not None:
        assert opened["agent"] == runs


@with_workers
def test_each_part_is_warmed_opened_and_closed_once(noting: Project, dist: list[str]) -> None:
    done = noting.run("evals", "--attack=noting", "-q")
    assert done.ret == 0, done.stdout.str()
    check(noting, runs=3)
    assert len(notes(noting)) == (2 if dist == ["-n2"] else 1)


def test_a_run_leaves_its_parts_after_it_was_scored(noting: Project) -> None:
    noting.run("evals", "--attack=noting", "--task-ids=t0:m")
    [noted] = notes(noting).values()
    run = [" ".join(words) for words in noted if words[1] not in ("warm", "aclose")]
    assert run == [
        "model open t0:m",
        "dataset open t0:m",
        "environment open t0:m",
        "evaluator open t0:m",
        "agent open t0:m",
        "attack open t0:m",
        "model asked",
        "evaluator judges",
        "evaluator judges",
        "attack left t0:m",
        "agent left t0:m",
        "evaluator left t0:m",
        "environment left t0:m",
        "dataset left t0:m",
        "model left t0:m",
    ]


def test_x_closes_what_is_open(noting: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAILS", "evaluator judges")
    done = noting.run("evals", "--attack=noting", "-x", "--siren-concurrency=1")
    assert done.ret != 0
    check(noting)


def test_only_collecting_closes_and_warms_nothing(noting: Project) -> None:
    assert noting.run("evals", "--attack=noting", "--collect-only").ret == 0
    [noted] = notes(noting).values()
    assert sorted(" ".join(words) for words in noted) == sorted(f"{kind} aclose" for kind in KINDS)


def test_runs_that_are_reported_from_records_warm_nothing(noting: Project) -> None:
    noting.run("evals", "--attack=noting")
    (noting.path / "notes.txt").unlink()
    noting.run("--lf")
    assert {words[1] for words in next(iter(notes(noting).values()))} == {"aclose"}


@with_workers
def test_ctrl_c_closes_what_is_open(
    noting: Project, dist: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAITS", "1")
    with open(noting.path / "output.txt", "wb") as output:
        process = noting.spawn(
            output.fileno(), *dist, "evals", "--attack=noting", "--siren-grace=0"
        )
    path, deadline = noting.path / "notes.txt", time.monotonic() + 100
    while not path.exists() or path.read_text().count("asked") < 3:
        assert time.monotonic() < deadline, Path(noting.path / "output.txt").read_text()
        assert process.poll() is None, Path(noting.path / "output.txt").read_text()
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(100) == 2
    check(noting, runs=3)


@pytest.mark.parametrize(
    ("kind", "label"),
    [
        ("model", "model 'noting:x'"),
        ("dataset", "dataset 'noting'"),
        ("environment", "environment of dataset 'noting'"),
        ("evaluator", "evaluator 'noon' of dataset 'noting'"),
        ("agent", "agent 'noting'"),
        ("attack", "attack 'noting'"),
    ],
)
@pytest.mark.parametrize(
    ("stage", "what"),
    [
        ("warm", "warming up failed"),
        ("open", "opening the run failed"),
        ("left", "closing the run failed"),
        ("aclose", "was not closed"),
    ],
)
@pytest.mark.inside
def test_what_fails_is_named_and_nothing_else_is_left_open(
    noting: Project, monkeypatch: pytest.MonkeyPatch, kind: str, label: str, stage: str, what: str
) -> None:
    monkeypatch.setenv("FAILS", f"{kind} {stage}")
    done = noting.run("evals", "--attack=noting", "--task-ids=t0:m")
    output = " ".join((done.stdout.str() + done.stderr.str()).split())
    count = Counter(tuple(words[:2]) for words in next(iter(notes(noting).values())))
    assert all(count[one, "aclose"] == 1 for one in KINDS)
    if stage == "aclose":
        assert f"{label} was not closed: ConnectionError: no route" in output
        assert done.ret == 0
        return
    [result] = noting.results()
    message = result["exception_info"]["exception_message"]
    assert message == f"{label}: {what}: ConnectionError: no route"
    if stage == "open":
        order = ["model", "dataset", "environment", "evaluator", "agent", "attack"]
        before = order[: order.index(kind)]
        assert [one for one in order if count[one, "left"]] == before
    if stage == "warm":
        assert not count["model", "asked"]


@pytest.mark.inside
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_text_that_a_part_depends_on_enters_the_identity(
    noting: Project, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("DEPENDS", kind)
    for text in ("one", "one", "two"):
        monkeypatch.setenv("TEXT", text)
        assert noting.run("evals", "--attack=noting").ret == 0
    one, same, two = (yaml.safe_load((job / CONFIG_FILE).read_text()) for job in noting.jobs())
    assert one["identity"] == same["identity"] != two["identity"]
    assert list(one["sources"]) == ["text"]
