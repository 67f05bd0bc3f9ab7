"""AgentDojo's suites (Debenedetti et al. 2024, https://arxiv.org/abs/2406.13352)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version as package_version
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

from pytest_siren.environments.agentdojo.lazy_import import without_sdks
from pytest_siren.evaluation.components import Component
from pytest_siren.evaluation.tasks import (
    BenignTask,
    Couple,
    Evidence,
    GroundTruth,
    MaliciousTask,
    ToolCall,
)
from pytest_siren.text.words import suggestion

if TYPE_CHECKING:
    from agentdojo.functions_runtime import TaskEnvironment

    from pytest_siren.environments.agentdojo.environment import AgentDojoEnvironment

SUITES = ("workspace", "banking", "slack", "travel")
VERSIONS = ("v1", "v1.1", "v1.1.1", "v1.1.2", "v1.2", "v1.2.1", "v1.2.2")


class AgentDojoConfig(BaseModel):
    """Configuration of the dataset ``agentdojo``."""

    model_config = ConfigDict(extra="forbid")

    suite_name: str = Field(
        default="workspace", description="workspace, banking, slack, travel or a registered suite"
    )
    version: str = Field(default="v1.2.2", description="Version of the benchmark, such as v1.2.2")


@dataclass(frozen=True)
class AgentDojoDataset:
    """One suite in one version."""

    name: str
    suite: str
    user_name: str
    benign_tasks: Sequence[BenignTask]
    malicious_tasks: Sequence[MaliciousTask]
    environment: AgentDojoEnvironment

    @cached_property
    def couples(self) -> Sequence[Couple]:
        """Every benign task with every malicious task."""
        return [Couple(*pair) for pair in product(self.benign_tasks, self.malicious_tasks)]


def benchmark(version: str) -> dict[str, str]:
    """Return the versions that decide what evaluators do: of the benchmark and of its package."""
    return {"benchmark": version, "agentdojo": package_version("agentdojo")}


def matching_versions(
    suites: Mapping[str, tuple[Mapping[str, str], Mapping[str, str]]],
) -> tuple[str, ...]:
    """Return the versions of the benchmark whose tasks are these, oldest first.

    ``suites`` maps a suite to the prompts of tasks by their ids, and to planted contents by the ids
    of the injection tasks whose goals they state in some version. Raises ``ImportError``.
    """
    get_suites = _suites()
    return tuple(
        version
        for version in VERSIONS
        if all(_has(get_suites(version).get(name), *texts) for name, texts in suites.items())
    )


def _has(suite: Any, prompts: Mapping[str, str], planted: Mapping[str, str]) -> bool:
    if suite is None:
        return False
    tasks = {**suite.user_tasks, **suite.injection_tasks}
    texts = {name: getattr(task, "PROMPT", None) or task.GOAL for name, task in tasks.items()}
    return all(texts.get(name) == prompt for name, prompt in prompts.items()) and all(
        name in suite.injection_tasks and suite.injection_tasks[name].GOAL in content
        for name, content in planted.items()
    )


def _suites() -> Callable[[str], Mapping[str, Any]]:
    """Return AgentDojo's function of a version's suites. Raises ``ImportError``."""
    with without_sdks():
        try:
            from agentdojo.task_suite.load_suites import get_suites
        except ImportError as error:
            raise ImportError(
                f"the dataset agentdojo needs the package agentdojo ({error}); "
                "install it with: pip install 'pytest-siren[agentdojo]'"
            ) from error
    return get_suites  # type: ignore[no-any-return]


def load(config: AgentDojoConfig, base: Path) -> AgentDojoDataset:
    """Load a suite. Raises ``ValueError`` for a suite or version that the package does not hold."""
    suites = _suites()(config.version)
    if not suites:
        raise ValueError(_unknown("version", config.version, VERSIONS))
    if config.suite_name not in suites:
        raise ValueError(_unknown("suite_name", config.suite_name, tuple(suites)))
    with without_sdks():
        from pytest_siren.environments.agentdojo.environment import AgentDojoEnvironment

    suite = suites[config.suite_name]
    environment = AgentDojoEnvironment(suite)
    pristine = environment.pristine()
    system_prompt = _system_prompt()
    return AgentDojoDataset(
        name=f"agentdojo-{config.suite_name}",
        suite=config.suite_name,
        user_name="Emma Johnson",
        benign_tasks=[_benign(task, pristine, system_prompt) for task in suite.user_tasks.values()],
        malicious_tasks=[_malicious(task, pristine) for task in suite.injection_tasks.values()],
        environment=environment,
    )


def _system_prompt() -> str:
    """Return AgentDojo's default system message."""
    messages = yaml.safe_load((files("agentdojo") / "data" / "system_messages.yaml").read_text())
    return str(messages["default"])


def _unknown(key: str, value: str, known: tuple[str, ...]) -> str:
    return f"unknown {key} {value!r}{suggestion(value, known)}; known: {', '.join(known)}"


def _benign(task: Any, pristine: TaskEnvironment, system_prompt: str) -> BenignTask:
    return BenignTask(
        id=task.ID,
        prompt=task.PROMPT,
        evaluators={"utility": _evaluator(task, task.utility_from_traces, task.utility)},
        ground_truth=_ground_truth(task, pristine),
        system_prompt=system_prompt,
    )


def _malicious(task: Any, pristine: TaskEnvironment) -> MaliciousTask:
    return MaliciousTask(
        id=task.ID,
        goal=task.GOAL,
        evaluators={"security": _evaluator(task, task.security_from_traces, task.security)},
        ground_truth=_ground_truth(task, pristine),
    )


def _evaluator(
    task: Any, from_traces: Callable[..., bool | None], from_state: Callable[..., bool]
) -> Callable[[Evidence], float]:
    # AgentDojo's own evaluators do not change the states that they compare; others may.
    own = type(task).__module__.startswith("agentdojo.")

    def evaluate(evidence: Evidence) -> float:
        from agentdojo.functions_runtime import FunctionCall

        from pytest_siren.environments.agentdojo.environment import executed_args
        from pytest_siren.environments.agentdojo.sharing import dedupe_equal_parts

        traces = [
            FunctionCall(function=call.name, args=executed_args(call), id=call.id)
            for call in evidence.calls
        ]
        before, after = evidence.pre_state.env, evidence.post_state.env
        with dedupe_equal_parts(before, after) if own else nullcontext():
            verdict = from_traces(evidence.output, before, after, traces)
            if verdict is None:
                verdict = from_state(evidence.output, before, after)
        return float(verdict)

    return evaluate


def _ground_truth(task: Any, pristine: TaskEnvironment) -> GroundTruth | None:
    """Return the task's known solution; ``None`` if AgentDojo gives neither calls nor text."""
    if not task.GROUND_TRUTH_OUTPUT and not task.ground_truth(pristine):
        return None

    def calls(state: Any) -> Sequence[ToolCall]:
        found = task.ground_truth(state.env)
        return [
            ToolCall(call.function, dict(call.args), placeholders=call.placeholder_args)
            for call in found
        ]

    return GroundTruth(calls, task.GROUND_TRUTH_OUTPUT)


component = Component(AgentDojoConfig, load)
