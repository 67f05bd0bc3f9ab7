"""Identities: frozen values, and what enters them."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from pytest_siren.evaluation.components import Source
from pytest_siren.spec.jobspec import JobSpec, identity, job_identity, run_identity, source_digests
from tests.unit.spec_sample import Folder

FILE = """\
name: golden
dataset: {type: toy, config: {version: v2, tasks: [{id: a, prompt: "Grüße"}]}}
agent: {type: plain, config: {model: "openai:gpt-5", settings: {temperature: 0.5}}}
attack: {name: loud, type: echo, config: {text: "DO {goal}"}}
usage_limits: {request_limit: 20, cost_limit: 0.25}
"""


@pytest.fixture
def job(tmp_path: Path) -> JobSpec:
    [job] = Folder(tmp_path).load(FILE)
    return job


def test_identities_never_change(job: JobSpec) -> None:
    assert identity({}) == "44136fa355b3678a"
    assert identity({"b": [1, 2.5, None, True], "a": "ü"}) == "016a42b8cab958d1"
    assert job_identity(job) == "d328a261435e236b"
    assert run_identity(job_identity(job), "a:b", 0) == "1a63f40a0630f642"
    assert run_identity(job_identity(job), "a:b", 1) == "2e93b9f2fbec6471"


def test_an_identity_is_the_hash_of_canonical_json() -> None:
    import hashlib

    text = b'{"a":"\\u00fc","b":[1,2.5,null,true]}'
    expected = hashlib.sha256(text).hexdigest()[:16]
    assert identity({"b": [1, 2.5, None, True], "a": "ü"}) == expected


def test_the_order_of_keys_does_not_matter(tmp_path: Path, job: JobSpec) -> None:
    reordered = """\
usage_limits: {cost_limit: 0.25, request_limit: 20}
attack: {config: {text: "DO {goal}"}, type: echo, name: loud}
agent: {config: {settings: {temperature: 0.5}, model: "openai:gpt-5"}, type: plain}
dataset: {config: {tasks: [{prompt: "Grüße", id: a}], version: v2}, type: toy}
"""
    [other] = Folder(tmp_path).load(reordered)
    assert job_identity(other) == job_identity(job)


@pytest.mark.parametrize(
    "setting",
    [
        "runs=3",
        "usage_limits.request_limit=21",
        "usage_limits=null",
        "execution.concurrency=2",
        "execution.n_runs_per_task=2",
        "output.job_name=x",
        "output.jobs_dir=elsewhere",
        "telemetry.trace_console=true",
        "logging.level=DEBUG",
        "slurm.time_minutes=1",
        "tags=[x]",
        "gates=[asr <= 1]",
        "name=x",
        "task_ids=[a]",
        "pass_when.attack=always",
    ],
)
def test_what_does_not_change_a_run_does_not_enter(
    tmp_path: Path, job: JobSpec, setting: str
) -> None:
    [other] = Folder(tmp_path).load(FILE, sets=(setting,))
    assert job_identity(other) == job_identity(job)


@pytest.mark.parametrize(
    "setting",
    [
        "dataset.config.version=v1",
        "dataset.config.tasks.0.prompt=other",
        "agent.type=modelless",
        "agent.config.model=openai:gpt-4",
        "agent.config.settings.temperature=1",
        "attack.config.text=other",
        "attack.name=quiet",
    ],
)
def test_what_changes_a_run_enters(tmp_path: Path, job: JobSpec, setting: str) -> None:
    sets = (setting, "~agent.config.settings") if setting.startswith("agent.type") else (setting,)
    [other] = Folder(tmp_path).load(FILE, sets=sets)
    assert job_identity(other) != job_identity(job)


def test_a_benign_job_is_another_job(tmp_path: Path, job: JobSpec) -> None:
    [benign] = Folder(tmp_path).load(FILE, benign=True)
    assert job_identity(benign) != job_identity(job)
    assert job_identity(benign) == job_identity(replace(job, attack=None))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (date(2024, 1, 1), r"data\['a'\]\[0\] is of type date, which JSON cannot hold"),
        (b"x", r"data\['a'\]\[0\] is of type bytes, which JSON cannot hold"),
        ({1: 2}, r"data\['a'\]\[0\] has the key 1, which is not a string"),
        ({3}, r"data\['a'\]\[0\] is of type set, which JSON cannot hold"),
    ],
)
def test_what_json_has_no_word_for_is_refused(value: Any, message: str) -> None:
    with pytest.raises(TypeError, match=f"^{message}$"):
        identity({"a": [value]})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"^data\['a'\] is (nan|inf), which JSON cannot hold$"):
        identity({"a": value})


def test_a_file_that_the_configuration_names_enters_with_its_content(
    tmp_path: Path, job: JobSpec
) -> None:
    tasks = tmp_path / "data" / "tasks.csv"
    tasks.parent.mkdir()
    tasks.write_text("id,prompt")
    before = source_digests([tasks], tmp_path)
    assert list(before) == ["data/tasks.csv"]
    tasks.write_text("id,prompt,equals")
    after = source_digests([tasks], tmp_path)
    assert len({job_identity(job), job_identity(job, before), job_identity(job, after)}) == 3
    assert job_identity(job, {}) == job_identity(job)


def test_a_text_enters_by_its_name_and_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    digests = source_digests([Source("b", "y"), tmp_path / "a", Source("b", "y")], tmp_path)
    assert list(digests) == ["a", "b"]
    assert digests["b"] == hashlib.sha256(b"y").hexdigest()
    with pytest.raises(ValueError, match=r"^two sources have the name 'b', and differ$"):
        source_digests([Source("b", "y"), Source("b", "z")], tmp_path)
    with pytest.raises(ValueError, match=r"^the source 'a' has the name of a file of the job$"):
        source_digests([tmp_path / "a", Source("a", "x")], tmp_path)
