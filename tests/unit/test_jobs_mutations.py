"""Every field of every file of a job, changed in every way, before every reader.

A reader refuses a file by an error of its own that names the file, or reads it right. What it never
does: another exception, a figure that nobody wrote, a run less without a word.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_siren.jobs.baselines.files import BaselineError, lines_of, raw_lines, read_baseline
from pytest_siren.jobs.differences import differences
from pytest_siren.jobs.frame.table import read_runs
from pytest_siren.jobs.reading.job_config import RecordError, job_summary
from pytest_siren.jobs.reading.read import (
    iter_index,
    load_attacks,
    load_config,
    load_execution,
    load_result,
    load_transcript,
)
from pytest_siren.jobs.sweeps import Sweep, SweepError, find_jobs, write_sweep
from pytest_siren.jobs.writing.repair import repair, up_to_date
from pytest_siren.jobs.writing.store import History, JobStore
from pytest_siren.models.replay import NoRecordingError, ReplaySource
from pytest_siren.models.transcripts import TranscriptError
from pytest_siren.reports.html.transcript import transcript
from pytest_siren.session.config.invocation import Invocation
from tests.unit.jobs_sample import CONFIG, attempt, error_attempt
from tests.unit.test_models_replay import COUPLE_RUN

Place = tuple[str | int, ...]

REFUSALS = (RecordError, BaselineError, SweepError, TranscriptError, NoRecordingError)
MISSING = object()
DEEP: Any = "x"
for _ in range(300):
    DEEP = [DEEP]
VALUES: dict[str, Any] = {
    "missing": MISSING,
    "null": None,
    "true": True,
    "minus one": -1,
    "zero": 0,
    "seven and a half": 7.5,
    "a number as text": "1",
    "huge": 1e308,
    "more than 64 bits": 2**70,
    "too many digits": "@9" + "9" * 5_000,
    "not a number": math.nan,
    "infinite": -math.inf,
    "empty text": "",
    "text": "odd",
    "a way out": "../../../etc",
    "controls": "\x1b[2J\x00\u202e",
    "a lone surrogate": '@"\\ud800"',
    "a torn escape": '@"\\u12"',
    "a wrong zone": "2026-01-02T03:04:05+99:00",
    "no zone": "2026-01-02T03:04:05",
    "the first year": "0001-01-01T00:00:00+14:00",
    "a list": [],
    "a list of nothing": [None],
    "an object": {},
    "another object": {"a": 1},
    "deep": DEEP,
}
"""What a field becomes; a text that begins with @ is written as it stands after it."""


def places(value: Any, before: Place = (), deepest: int = 3) -> Iterator[Place]:
    """Yield the place of every field of ``value``, of those within others too."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in pairs:
        place = (*before, key)
        yield place
        if isinstance(inner, dict | list) and len(place) < deepest:
            yield from places(inner, place, deepest)


def changed(document: Any, place: Place, value: Any) -> Any:
    if not place:
        return value
    copy = document.copy()
    if len(place) == 1 and value is MISSING:
        del copy[place[0]]
    else:
        copy[place[0]] = changed(copy[place[0]], place[1:], value)
    return copy


def as_json(document: Any, value: Any) -> str:
    text = json.dumps(document)
    raw = isinstance(value, str) and value.startswith("@")
    return text.replace(json.dumps(value), value[1:]) if raw else text


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of jobs: one job with a scored run and one in error, its sweep and a baseline."""
    base = tmp_path_factory.mktemp("original")
    config = {**CONFIG, "planned_runs": 2, "dataset_name": "d", "sweep_id": "s1", "not_needed": 0}
    config |= {"invocation": Invocation(args=("evals",), runs=3).plain(), "sources": {"a.py": "1"}}
    config |= {"eval_file": "evals/eval_x.yaml", "model_label": "m", "overrides": [{"runs": 3}]}
    store = JobStore.open(base / "jobs", "job", "session", config)
    second = error_attempt(run_id="00000002")
    for one in (attempt(run_id="00000001"), second):
        index = int(one.run_id) - 1
        run = replace(one.run, run_index=index, identity=f"run{index}")
        store.record(replace(one, run=replace(run, job=replace(run.job, path=store.path))))
    write_sweep(base / "jobs", Sweep("s1", ("job",), {"1f2e": "job"}), "local")
    lines = lines_of(read_runs([store.path]).runs)
    (base / "b.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return base


@pytest.fixture
def work(original: Path, tmp_path: Path) -> Path:
    """A copy of it, which may be spoilt and is put in order by ``restored``."""
    for path in original.rglob("*"):
        if path.is_file():
            target = tmp_path / path.relative_to(original)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return tmp_path


def refused(path: Path, read: Callable[[], object]) -> str | None:
    """Return how ``read`` refuses the file ``path``; ``None`` when it does not."""
    try:
        read()
    except REFUSALS as error:
        said = str(error)
    else:
        return None
    looked_for = ("holds no recording", "none of the jobs of the sweep")
    assert path.name in said or any(one in said for one in looked_for), (
        f"{said!r} does not name {path.name}"
    )
    assert "\n" not in said
    return said


def figures(job: Path) -> tuple[list[tuple[Any, ...]], bool]:
    """Return what tables make of ``job``, and whether they say that something is amiss."""
    read = read_runs([job])
    names = ["task_id", "run_index", "status", "benign_score", "attack_score", "error_type"]
    names += ["attempts", "input_tokens", "output_tokens", "cost", "duration", "vectors"]
    rows = read.runs[names].astype(object).where(read.runs[names].notna(), None)
    found = sorted(rows.itertuples(index=False, name=None), key=repr)
    return found, bool(read.problems or read.notes)


Cases = Callable[[Any], Iterator[tuple[Place, str, Any]]]


@pytest.fixture(params=[5, pytest.param(1, marks=pytest.mark.nightly)], ids=["some", "all"])
def cases(request: pytest.FixtureRequest) -> Cases:
    """Every field of a document and what it becomes: every value, or each for some fields."""
    every: int = request.param

    def chosen(document: Any) -> Iterator[tuple[Place, str, Any]]:
        for number, place in enumerate(places(document)):
            for name, value in list(VALUES.items())[-number % every :: every]:
                yield place, name, value

    return chosen


RIGHT: dict[str, Callable[[Any], bool]] = {
    "benign_score": lambda value: value is None or (type(value) in (int, float) and value == 0),
    "attack_score": lambda value: value is None or (type(value) in (int, float) and value == 0),
    "duration": lambda value: type(value) in (int, float) and value in (-1, 0, 7.5),
    "input_tokens": lambda value: value == 0 and type(value) is int,
    "output_tokens": lambda value: value == 0 and type(value) is int,
    "run_index": lambda value: value == 0 and type(value) is int,
    "cost": lambda value: value is None or (value in (0, 7.5) and type(value) is not bool),
    "task_id": lambda value: isinstance(value, str),
    "exception_type": lambda value: value is None or isinstance(value, str),
    "vectors": lambda value: value == [] or isinstance(value, str),
    "identity": lambda value: isinstance(value, str) and value != "",
    "attempt": lambda value: False,
}
"""Fields of records that figures are made of, and which of ``VALUES`` may change them."""
OPTIONAL = ("cost", "vectors")


def may_change(field: str | int, value: Any) -> bool:
    if value is MISSING:
        return field in OPTIONAL
    known = RIGHT.get(str(field))
    return known is not None and known(value)


def test_results(work: Path, cases: Cases) -> None:
    job = work / "jobs/job"
    for run_id in ("00000001", "00000002"):
        path = next(job.glob(f"*/{run_id}/result.json"))
        whole, index = path.read_text(), (job / "index.jsonl").read_bytes()
        document, before = json.loads(whole), figures(job)
        for place, name, value in cases(document):
            if run_id == "00000002" and place[0] not in ("status", "exception_info", "retries"):
                continue  # as of the first one
            path.write_text(as_json(changed(document, place, value), value))
            where = f"{place}: {name}"
            bad = refused(path, lambda path=path: load_result(path.parent))
            found = repair(job)
            # That a record lies in the folder of its attempt, only those look who see the folder.
            lost = bool(found.problems)
            assert lost == (bad is not None) or place == ("run_id",), where
            assert len(found.entries) == (1 if lost else 2), where
            History.of(found.entries)
            rows, said = figures(job)
            # What repair lets pass, no reader refuses.
            assert said == lost, where
            inner = place[-1] if place[0] in ("usage", "exception_info") else place[0]
            if not lost and rows != before[0]:
                assert may_change(inner, value), where
            transcript(path.parent)
            refused(path, lambda: ReplaySource(str(job), job).transcript(COUPLE_RUN))
            (job / "index.jsonl").write_bytes(index)
        path.write_text(whole)


def test_lines_of_an_index(work: Path, cases: Cases) -> None:
    job = work / "jobs/job"
    path = job / "index.jsonl"
    lines = path.read_text().splitlines()
    before, _ = figures(job)
    for number, line in enumerate(lines):
        document = json.loads(line)
        for place, name, value in cases(document):
            if number and place[0] not in ("status", "exception_type"):
                continue
            spoilt = [*lines]
            spoilt[number] = as_json(changed(document, place, value), value)
            path.write_text("\n".join(spoilt) + "\n")
            where = f"{place}: {name}"
            bad = refused(path, lambda: list(iter_index(job)))
            rows, said = figures(job)
            # A table needs less of a line than the commands that resume or list.
            assert said or not bad or rows == before, where
            if not said and rows != before:
                assert may_change(place[0], value), where
            if said and bad is None:
                assert len(rows) in (1, 2), where
            found = up_to_date(job)
            assert len(found.entries) == 2, where
            path.write_text("\n".join(lines) + "\n")


def test_executions(work: Path, cases: Cases) -> None:
    job = work / "jobs/job"
    path = next(job.glob("*/00000001/execution.json"))
    document = json.loads(path.read_text())
    source = ReplaySource(str(job), job)
    for _place, _name, value in cases(document):
        path.write_text(as_json(changed(document, _place, value), value))
        for read in (load_execution, load_transcript, load_attacks):
            refused(path, lambda read=read: read(path.parent))
        assert transcript(path.parent) is not None
        refused(path, lambda: source.transcript(COUPLE_RUN))


def test_configurations(work: Path, cases: Cases) -> None:
    job = work / "jobs/job"
    path = job / "config.yaml"
    document = yaml.safe_load(path.read_text())
    before, _ = figures(job)
    for place, name, value in cases(document):
        if isinstance(value, str) and value.startswith("@"):
            continue
        spoilt = changed(document, place, "@" if value is DEEP else value)
        text = yaml.safe_dump(spoilt, sort_keys=False)
        path.write_text(text.replace("'@'", "[" * 300 + "]" * 300))
        where = f"{place}: {name}"
        refused(path, lambda: load_config(job))
        refused(path, lambda: job_summary(job))
        rows, said = figures(job)
        # A configuration says nothing of scores, so runs are left out by name or not at all.
        assert (
            said
            or [row[1:] for row in rows] == [row[1:] for row in before]
            or (place[0] == "attack")
        ), where
        refused(path, lambda: differences(load_config(job).values, document))
        with suppress(RecordError, ValueError):  # which a session makes a usage error of
            Invocation.from_plain(load_config(job).values.get("invocation") or {})


def test_sweeps(work: Path, cases: Cases) -> None:
    path = work / "jobs/.sweeps/s1.json"
    document = json.loads(path.read_text())
    for _place, _name, value in cases(document):
        path.write_text(as_json(changed(document, _place, value), value))
        refused(path, lambda: find_jobs(work / "jobs", "s1", work))
        refused(path, lambda: write_sweep(work / "jobs", Sweep("s1", ("job",)), "local"))


def test_baselines(work: Path, cases: Cases) -> None:
    path = work / "b.jsonl"
    lines = path.read_text().splitlines()
    before = len(read_baseline(path))
    for number, line in enumerate(lines):
        document = json.loads(line)
        for place, name, value in cases(document):
            spoilt = [*lines]
            spoilt[number] = as_json(changed(document, place, value), value)
            path.write_text("\n".join(spoilt) + "\n")
            if refused(path, lambda: read_baseline(path)) is None:
                assert len(read_baseline(path)) == before, f"{place}: {name}"
                raw_lines(path)
