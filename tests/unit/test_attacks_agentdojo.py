"""The built-in attacks plant what AgentDojo's own classes plant."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from pytest_siren.attacks.template_string import component, other_model
from pytest_siren.datasets.agentdojo import AgentDojoConfig, AgentDojoDataset, load
from pytest_siren.environments.agentdojo.lazy_import import without_sdks
from pytest_siren.evaluation.models import RunContext
from pytest_siren.evaluation.stage import StaticAttack, Target, denies_service
from pytest_siren.models.control import ControlSource
from pytest_siren.models.names import spoken_name
from pytest_siren.spec.documents import PRESETS, built_in_names

pytest.importorskip("agentdojo", reason="needs the extra agentdojo")

MODELS = ("gpt-4o-2024-05-13", "claude-3-5-sonnet-20241022", "meta-llama/Llama-3-70b-chat-hf")
SUITES = ("workspace", "banking", "slack", "travel")
ASKS_A_PERSON = "manual"


def theirs() -> Mapping[str, Any]:
    with without_sdks():
        from agentdojo.attacks import attack_registry
    return {name: one for name, one in attack_registry.ATTACKS.items() if name != ASKS_A_PERSON}


def ours(name: str) -> StaticAttack:
    config = yaml.safe_load((PRESETS / f"{name}.yaml").read_text())["config"]
    built = component.build(component.config.model_validate(config), Path())
    assert isinstance(built, StaticAttack)
    return built


def pipeline(model: str) -> Any:
    return SimpleNamespace(name=f"{model}-tool_filter")


def targets(dataset: AgentDojoDataset, model: str) -> Iterator[Target]:
    source: Any = SimpleNamespace(spoken_name=spoken_name(f"somewhere:{model}"))
    read = {
        task.id: asyncio.run(dataset.environment.exposed(task)) for task in dataset.benign_tasks
    }
    everywhere = dataset.environment.vectors
    for couple in dataset.couples:
        run = RunContext("d", None, couple.id, couple.benign, couple.malicious, "a", 0)
        vectors = {one: text for one, text in everywhere.items() if one in read[couple.benign.id]}
        yield Target(run, couple, vectors, everywhere, source, dataset.user_name)


@pytest.fixture
def candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let AgentDojo look for the vectors that a task reads once, not once for each attack."""
    from agentdojo.attacks.base_attacks import BaseAttack

    found: dict[Any, list[str]] = {}
    look = BaseAttack.get_injection_candidates.__wrapped__

    def once(self: Any, user_task: Any) -> list[str]:
        key = (self.task_suite.name, id(user_task))
        if key not in found:
            found[key] = look(self, user_task)
        return found[key]

    monkeypatch.setattr(BaseAttack, "get_injection_candidates", once)


def test_every_attack_of_agentdojos_registry_has_its_name_here() -> None:
    assert set(theirs()) <= set(built_in_names())
    for name, attack in theirs().items():
        assert denies_service(ours(name)) == attack.is_dos_attack
        # The name under which AgentDojo files transcripts of it.
        assert ours(name).recording(ControlSource("hijacked")) == name


def test_another_model_is_drawn_as_agentdojo_draws_it() -> None:
    with without_sdks():
        from agentdojo.attacks.important_instructions_attacks import (
            get_wrong_model_name_from_pipeline,
        )
        from agentdojo.models import MODEL_NAMES
    for model, name in MODEL_NAMES.items():
        assert other_model(name) == get_wrong_model_name_from_pipeline(pipeline(model))


@pytest.mark.usefixtures("candidates")
@pytest.mark.parametrize(
    ("suite", "version"),
    [
        ("banking", "v1.2.2"),
        *(
            pytest.param(suite, version, marks=pytest.mark.nightly)
            for version in ("v1.2.2", "v1")
            for suite in SUITES
            if (suite, version) != ("banking", "v1.2.2")
        ),
    ],
)
def test_the_contents_of_every_couple_are_agentdojos_own(suite: str, version: str) -> None:
    from agentdojo.task_suite.load_suites import get_suite

    dataset = load(AgentDojoConfig(suite_name=suite, version=version), Path())
    their_suite = get_suite(version, suite)
    compared = 0
    for model in MODELS:
        aims = list(targets(dataset, model))
        for name, attack_class in theirs().items():
            attack, their_attack = ours(name), attack_class(their_suite, pipeline(model))
            planted = asyncio.run(contents(attack, dataset, aims))
            for aim, found in zip(aims, planted, strict=True):
                user_task = their_suite.get_user_task_by_id(aim.couple.benign.id)
                injection = their_suite.get_injection_task_by_id(aim.couple.malicious.id)
                assert found == their_attack.attack(user_task, injection), (name, aim.couple.id)
                compared += 1
    assert compared == len(MODELS) * len(theirs()) * len(dataset.couples)


async def contents(
    attack: StaticAttack, dataset: AgentDojoDataset, aims: list[Target]
) -> list[Mapping[str, str]]:
    stages: Any = (
        SimpleNamespace(environment=dataset.environment, task=aim.couple.benign) for aim in aims
    )
    return [await attack.planted(stage, aim) for stage, aim in zip(stages, aims, strict=True)]
