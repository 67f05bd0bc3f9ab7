"""How far attacks came in published AgentDojo transcripts, by provenance and by text.

Run it with ``python -m benchmarks.exposure FOLDER [--json FILE]``, where FOLDER holds pipelines as
AgentDojo's logger writes them (``PIPELINE/SUITE/TASK/ATTACK/INJECTION.json``, suites of v1). Each
attacked run is replayed in AgentDojo's own environment, where it is known which injection vectors
each tool result shows, and classified a second time from the texts of its file alone, as it is done
with imported transcripts. The shares are of scored runs; runs that both ways disagree on are
listed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.usage import UsageLimits

from pytest_siren.agents.plain import PlainAgent, PlainAgentConfig
from pytest_siren.attacks.recorded import RecordedAttack, RecordedAttackConfig
from pytest_siren.datasets.agentdojo import SUITES, AgentDojoConfig, AgentDojoDataset, load
from pytest_siren.evaluation.exposure import stage_of_transcript
from pytest_siren.evaluation.models import RunContext
from pytest_siren.evaluation.run import RunPlan, execute
from pytest_siren.evaluation.scores import AttackStage, Status
from pytest_siren.evaluation.tasks import Couple, ToolCall
from pytest_siren.models.replay import ReplaySource


@dataclass
class Found:
    """What was found in the attacked runs of one pipeline."""

    pipeline: str
    runs: int = 0
    """Scored runs."""
    stages: Counter[str] = field(default_factory=Counter)
    """Runs by how far the attack came, by provenance."""
    successes: int = 0
    reached_successes: int = 0
    """Successes in runs whose model was sent planted text, by provenance."""
    disagree: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    """Run, stage by provenance, stage by text."""

    @property
    def agreement(self) -> float:
        """Share of the runs on which both ways agree."""
        return 1 - len(self.disagree) / self.runs if self.runs else 1.0


def classify(
    pipeline: Path, attack: str = "important_instructions", suites: Sequence[str] = SUITES
) -> Found:
    """Return what is found in the runs of ``pipeline`` under ``attack`` in ``suites``."""
    found = Found(pipeline.name)
    model = ReplaySource(str(pipeline), Path())
    for suite in suites:
        dataset = load(AgentDojoConfig(suite_name=suite, version="v1"), Path())
        for couple in dataset.couples:
            benign, malicious = couple.benign.id, couple.malicious.id
            file = pipeline / suite / benign / attack / f"{malicious}.json"
            if file.exists():
                _add(found, dataset, couple, model, attack, json.loads(file.read_text()))
    return found


def _add(
    found: Found,
    dataset: AgentDojoDataset,
    couple: Couple,
    model: ReplaySource,
    attack: str,
    log: Mapping[str, Any],
) -> None:
    context = RunContext(
        dataset.name, dataset.suite, couple.id, couple.benign, couple.malicious, attack, 0
    )
    plan = RunPlan(
        context=context,
        dataset=dataset,
        agent=PlainAgent(PlainAgentConfig()),
        attack=RecordedAttack(RecordedAttackConfig(name=attack)),
        model=model,
        limits=UsageLimits(request_limit=None),
    )
    outcome = asyncio.run(execute(plan))
    if outcome.status is not Status.SCORED:
        return
    won = outcome.attack_score == 1.0
    found.runs += 1
    found.successes += won
    found.reached_successes += won and outcome.exposed is True
    found.stages[str(outcome.stage)] += 1
    calls = asyncio.run(_goal_calls(dataset, couple))
    by_text, exposed = stage_of_transcript(messages_of(log), log["injections"], calls, won)
    ways = ((outcome.stage, outcome.exposed), (by_text, exposed))
    if ways[0] != ways[1]:
        names = [_name(*way) for way in ways]
        found.disagree.append((f"{dataset.suite} {couple.id}", names[0], names[1]))


async def _goal_calls(dataset: AgentDojoDataset, couple: Couple) -> Sequence[ToolCall]:
    truth = couple.malicious.ground_truth
    async with dataset.environment.open(couple.benign, {}) as state:
        return truth.calls(state) if truth else ()


def _name(stage: AttackStage | None, exposed: bool | None) -> str:
    unread = stage is AttackStage.ACHIEVED and not exposed
    return f"{stage}{' without being reached' if unread else ''}"


def messages_of(log: Mapping[str, Any]) -> list[ModelMessage]:
    """Return the conversation of a file of AgentDojo's logger."""
    return list(_messages(log["messages"]))


def _messages(messages: Sequence[Mapping[str, Any]]) -> Iterator[ModelMessage]:
    for message in messages:
        text = _text(message["content"])
        match message["role"]:
            case "system":
                yield ModelRequest([SystemPromptPart(text)])
            case "user":
                yield ModelRequest([UserPromptPart(text)])
            case "tool":
                name = message["tool_call"]["function"]
                shown = message.get("error") or text
                yield ModelRequest([ToolReturnPart(name, shown, message.get("tool_call_id") or "")])
            case "assistant":
                calls = message.get("tool_calls") or []
                asked = [ToolCallPart(one["function"], dict(one["args"] or {})) for one in calls]
                yield ModelResponse([TextPart(text), *asked])


def _text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(block["content"] or "" for block in content)


def _lines(found: Found) -> Iterator[str]:
    yield f"{found.pipeline}: {found.runs} scored runs"
    for stage in AttackStage:
        runs = found.stages[stage.value]
        yield f"  {stage.value:12} {runs:4}  {runs / found.runs:6.1%}"
    yield f"  successes in reached runs: {found.reached_successes} of {found.successes}"
    yield f"  provenance and text agree on {found.agreement:.2%}"
    for run, by_provenance, by_text in found.disagree:
        yield f"    {run}: {by_provenance}, by text {by_text}"


def main() -> None:
    """Classify the runs of each pipeline of a folder, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    found = [classify(one) for one in sorted(args.folder.iterdir()) if one.is_dir()]
    for one in found:
        print("\n".join(_lines(one)))
    if args.json is not None:
        args.json.write_text(json.dumps([asdict(one) for one in found], indent=2) + "\n")


if __name__ == "__main__":
    main()
