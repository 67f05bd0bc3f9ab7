"""prompt-siren."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from benchmarks.contest import Entry
from benchmarks.install import python_of
from benchmarks.peers import Peer
from benchmarks.processes import Command, FailedError, Finished
from benchmarks.work import Work

NAME = "prompt-siren"


def couples(folder: Path, work: Work) -> Command:
    """Return the command that attacks couples of AgentDojo's workspace suite."""
    python = python_of(NAME)
    assert python is not None
    program = str(python.parent / "prompt-siren")
    # Not a part of the measured time: prompt-siren runs from a copy of its default configuration.
    subprocess.run(
        [program, "config", "export", "config"], cwd=folder, check=True, stdout=subprocess.DEVNULL
    )
    arguments = [program, "run", "attack", "--config-dir=config"]
    arguments += ["+dataset=agentdojo-workspace", "+attack=agentdojo_important_instructions"]
    arguments += ["agent.config.model=openai-chat:gpt-4o-mini"]
    arguments += [f"execution.concurrency={work.in_flight}", "output.trace_dir=traces"]
    arguments += ["telemetry.trace_console=false", "telemetry.otel_endpoint=null"]
    if chosen := work.couple_ids():
        arguments.append(f"task_ids={json.dumps(chosen)}")
    return Command(tuple(arguments), folder)


def check(folder: Path, work: Work, finished: Finished) -> None:
    """Raise unless every couple has its record and its two scores."""
    lines = [json.loads(line) for line in (folder / "traces" / "index.jsonl").open()]
    scored = sum({"benign_score", "attack_score"} <= line.keys() for line in lines)
    records = sum(1 for _ in folder.glob("traces/agentdojo/*/*/*/*user_task*.json"))
    if not scored == records == work.runs:
        raise FailedError(f"{NAME}: {scored} couples scored, {records} recorded of {work.runs}")


def peer() -> Peer:
    """Return prompt-siren among its peers."""
    return Peer(
        name=NAME,
        python=python_of(NAME),
        settings=(
            "`execution.concurrency=64`, no console traces, no OpenTelemetry endpoint; its file "
            "`agentdojo_important_instructions`, which is its `template_string` attack"
        ),
        packages=(NAME, "pydantic-ai-slim", "pydantic", "openai", "httpx", "agentdojo"),
        entries={"couples": (Entry(NAME, couples, check),)},
        cannot={"one-call": "it has no dataset of plain prompts"},
    )
