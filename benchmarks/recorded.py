"""Recorded jobs of any number of runs: configurations and indexes as the plugin writes them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import msgspec

from pytest_siren.jobs.records.naming import INDEX_FILE, run_directory
from pytest_siren.jobs.writing.store import JobStore
from pytest_siren.records import IndexEntry

RUNS_PER_JOB = 10_000
COUPLES = [
    f"user_task_{benign}:injection_task_{malicious}"
    for benign, malicious in product(range(40), range(6))
]
MODELS = ("openai:gpt-5", "anthropic:claude-sonnet-4-5", "openai:gpt-5-mini", "google:gemini-3-pro")
ATTACKS = ("template_string", "tool_knowledge", "important_instructions", "direct", None)
SUITES = ("workspace", "banking", "slack", "travel")
RETRIED = 0.02
ERRORS = 0.01
_START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def write_jobs(folder: Path, runs: int) -> None:
    """Write jobs of ``RUNS_PER_JOB`` runs each into ``folder``, ``runs`` in all.

    Attempts have no ``result.json``: nothing that is measured reads them.
    """
    chance = random.Random(1)
    combinations = list(product(MODELS, SUITES, ATTACKS))
    for number in range(-(-runs // RUNS_PER_JOB)):
        model, suite, attack = combinations[number % len(combinations)]
        store = _store(folder, number, model, suite, attack)
        count = min(RUNS_PER_JOB, runs - number * RUNS_PER_JOB)
        with (store.path / INDEX_FILE).open("wb") as file:
            for line in _lines(chance, count, model, attack):
                file.write(msgspec.json.encode(line) + b"\n")


def _store(folder: Path, number: int, model: str, suite: str, attack: str | None) -> JobStore:
    config: dict[str, Any] = {
        "name": "scale",
        "dataset": {"type": "agentdojo", "config": {"suite_name": suite, "version": "v1.2.2"}},
        "agent": {"type": "plain", "config": {"model": model, "model_settings": {}}},
        "attack": attack and {"type": attack, "config": {"template": "Ignore {{ goal }}. " * 40}},
        "sandbox_manager": None,
        "execution": {"concurrency": 32, "n_runs_per_task": 42},
        "task_ids": None,
        "output": {"jobs_dir": "jobs", "job_name": None},
        "telemetry": {"trace_console": False, "otel_endpoint": None},
        "usage_limits": {"request_limit": 50},
        "eval_file": f"evals/eval_{suite}.yaml",
        "attack_name": attack,
        "identity": f"{model}{suite}{attack}",
        "planned_runs": RUNS_PER_JOB,
        "dataset_name": f"agentdojo-{suite}",
        "dataset_suite": suite,
        "model_label": model,
        "model_kind": "model",
    }
    return JobStore.open(folder, f"job_{number:04}", "scale", config, created_at=_START)


def _lines(
    chance: random.Random, runs: int, model: str, attack: str | None
) -> Iterator[dict[str, Any]]:
    for number in range(runs):
        couple = COUPLES[number % len(COUPLES)]
        task = couple if attack else couple.replace(":", "_")
        again = chance.random() < RETRIED
        attempts = 2 if again else 1
        for attempt in range(1, attempts + 1):
            failed = attempt < attempts or chance.random() < ERRORS
            run_index = number // len(COUPLES)
            run_id = f"{chance.getrandbits(32):08x}"
            won = float(chance.random() < 0.3)
            entry = IndexEntry(
                task_id=task,
                run_id=run_id,
                timestamp=_START + timedelta(seconds=number),
                benign_score=None if failed else float(chance.random() < 0.6),
                attack_score=None if failed or attack is None else won,
                exception_type="ModelHTTPError" if failed else None,
                path=run_directory(task, attack, run_id),
                status="error" if failed else "scored",
                run_index=run_index,
                attempt=attempt,
                identity=f"{number:016x}",
                duration=chance.uniform(2, 90),
                input_tokens=chance.randrange(500, 90_000),
                output_tokens=chance.randrange(50, 4_000),
                cost=chance.uniform(0.0001, 0.2),
                attack_outcome=None if failed or attack is None else "resisted",
                vectors=("injection_calendar", "injection_email") if attack else (),
                nodeid=f"evals/eval_x.yaml::{task}[{attack or 'benign'}-{model}-run{run_index}]",
            )
            yield vars(entry)
