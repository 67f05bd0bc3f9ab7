"""From an eval file and a selection to jobs."""

from __future__ import annotations

import dataclasses
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.usage import UsageLimits

from pytest_siren.spec.jobspec import JobSpec, PassWhen, job_identity
from pytest_siren.spec.schema import UNSUPPORTED, EvalFile, ExecutionSection, UsageLimitsSection
from tests.unit.spec_sample import AGENTS, MINIMAL, AgentConfig, Folder, ModellessConfig, ToyConfig


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_minimal_file_is_one_benign_job_with_defaults(folder: Folder) -> None:
    [job] = folder.load(MINIMAL)
    assert job == JobSpec(
        malicious_as_benign=False,
        source=folder.path / "eval_x.yaml",
        base=folder.path,
        name=None,
        dataset=job.dataset,
        agent=job.agent,
        model="m",
        attack=None,
        task_ids=None,
        runs=1,
        usage_limits={"request_limit": 50},
        concurrency=16,
        pass_when=PassWhen(),
        finish={},
        tags=(),
        gates=(),
        cell={},
        snapshot=job.snapshot,
        warnings=(),
    )
    assert (job.dataset.type, job.dataset.config, job.dataset.raw) == ("toy", ToyConfig(), {})
    assert (job.agent.type, job.agent.config) == ("plain", AgentConfig(model="m"))
    assert job.agent.raw == {"model": "m"}


def test_every_key_reaches_the_job(folder: Folder) -> None:
    [job] = folder.load(
        """\
name: all
dataset: {type: toy, config: {version: v2, tasks: [{id: a, prompt: x}]}}
agent: {type: plain, config: {model: "openai:gpt-5", patience: 2}}
attack: {name: loud, type: echo, config: {text: t}}
task_ids: ["a:b", a]
execution: {concurrency: 3, n_runs_per_task: 4}
usage_limits: {request_limit: null, total_tokens_limit: 9, cost_limit: 0.5}
pass_when: {benign: always, attack: attack_score <= 0.5}
tags: [x, y]
"""
    )
    assert job.name == "all"
    assert job.dataset.raw == {"version": "v2", "tasks": [{"id": "a", "prompt": "x"}]}
    assert job.agent.config == AgentConfig(model="openai:gpt-5", patience=2)
    assert job.attack is not None
    assert (job.attack.name, job.attack.type, job.attack.raw) == ("loud", "echo", {"text": "t"})
    assert (job.model, job.task_ids) == ("openai:gpt-5", ("a:b", "a"))
    assert (job.runs, job.concurrency, job.tags) == (4, 3, ("x", "y"))
    assert job.pass_when == PassWhen("always", "attack_score <= 0.5")
    assert job.usage_limits == {
        "request_limit": None,
        "total_tokens_limit": 9,
        "cost_limit": Decimal("0.5"),
    }


@pytest.mark.parametrize(
    ("line", "limits"),
    [
        ("", {"request_limit": 50}),
        ("usage_limits: {}", {"request_limit": 50}),
        ("usage_limits: {request_limit: 3}", {"request_limit": 3}),
        ("usage_limits: {request_limit: null}", {"request_limit": None}),
        ("usage_limits: null", {"request_limit": None}),
        ("usage_limits: {cost: 0.5}", {"request_limit": 50, "cost_limit": Decimal("0.5")}),
        ("usage_limits: {cost: null}", {"request_limit": 50, "cost_limit": None}),
        (
            "usage_limits: {cost: 0.5, cost_limit: 0.50}",
            {"request_limit": 50, "cost_limit": Decimal("0.5")},
        ),
        (
            "usage_limits: {input_tokens_limit: 5}",
            {"request_limit": 50, "input_tokens_limit": 5},
        ),
    ],
)
def test_usage_limits_are_keyword_arguments_of_pydantic_ai(
    folder: Folder, line: str, limits: dict[str, Any]
) -> None:
    [job] = folder.load(f"{MINIMAL}{line}\n")
    assert job.usage_limits == limits
    assert UsageLimits(**job.usage_limits).request_limit == limits["request_limit"]


def test_the_keys_of_usage_limits_are_those_of_pydantic_ai() -> None:
    theirs = {field.name: field.default for field in dataclasses.fields(UsageLimits)}
    ours = {name: field.default for name, field in UsageLimitsSection.model_fields.items()}
    assert ours == {**theirs, "cost": theirs["cost_limit"]}


@pytest.mark.parametrize("key", sorted(EvalFile.model_fields.keys() - {"dataset", "usage_limits"}))
def test_null_is_as_good_as_nothing(folder: Folder, key: str) -> None:
    text = "dataset: {type: toy}\n"
    [bare] = folder.load(text, models=("m",))
    [job] = folder.load(f"{text}{key}: null\n", models=("m",))
    assert job == bare


@pytest.mark.parametrize(
    ("line", "selection", "attacks"),
    [
        ("", {}, [None]),
        ("", {"benign": True}, [None]),
        ("", {"attacks": ("echo",)}, ["echo"]),
        ("", {"attacks": ("echo", "direct", "echo")}, ["echo", "direct"]),
        ("", {"attacks": ("echo",), "benign": True}, [None, "echo"]),
        ("attacks: [echo, direct]", {}, ["echo", "direct"]),
        ("attacks: [echo, direct]", {"attacks": ("direct",)}, ["direct"]),
        ("attacks: [echo, direct]", {"benign": True}, [None]),
        ("attacks: [echo, direct]", {"benign": True, "attacks": ("direct",)}, [None, "direct"]),
        ("attack: {name: own, type: echo}", {"attacks": ("own", "echo")}, ["own", "echo"]),
    ],
)
def test_the_command_line_decides_on_attacks_and_else_the_file(
    folder: Folder, line: str, selection: dict[str, Any], attacks: list[str | None]
) -> None:
    jobs = folder.load(f"{MINIMAL}{line}\n", **selection)
    assert [job.attack.name if job.attack else None for job in jobs] == attacks


def test_models_and_agents_multiply(folder: Folder) -> None:
    jobs = folder.load(
        "dataset: {type: toy}\nagent: {config: {model: m, patience: 3}}\n",
        models=("a", "b", "a"),
        agents=("plain", "modelless"),
        attacks=("echo",),
        benign=True,
    )
    assert [(job.agent.type, job.model, job.attack is not None) for job in jobs] == [
        (agent, model, attacked)
        for agent in ("plain", "modelless")
        for model in ("a", "b")
        for attacked in (False, True)
    ]
    # The agent of the file keeps its config; another begins with an empty one.
    assert jobs[0].agent.raw == {"model": "a", "patience": 3}
    assert jobs[4].agent.raw == {"model": "a"}
    assert jobs[4].agent.config == ModellessConfig()
    assert all(job.dataset is jobs[0].dataset for job in jobs)
    assert [job.cell for job in jobs] == [{}] * 8


def test_another_agent_keeps_the_model_of_the_file(folder: Folder) -> None:
    [job] = folder.load(MINIMAL, agents=("modelless",))
    assert (job.model, job.agent.raw) == ("m", {"model": "m"})


def test_options_override_the_file(folder: Folder) -> None:
    [job] = folder.load(
        f"{MINIMAL}execution: {{n_runs_per_task: 3, concurrency: 4}}\ntask_ids: [a]\n",
        models=("other",),
        runs=5,
        task_ids=("b", "c", "b"),
        concurrency=6,
    )
    assert (job.model, job.runs, job.task_ids, job.concurrency) == ("other", 5, ("b", "c"), 6)


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"runs": 0}, "--runs 0: wrong value for runs: 0 is not at least 1"),
        (
            {"concurrency": 0},
            "--concurrency 0: wrong value for execution.concurrency: 0 is not at least 1",
        ),
        ({"models": ("",)}, "--model : empty value for agent.config.model"),
        ({"task_ids": ("",)}, "--task-ids : empty value for task_ids[0]"),
        (
            {"agents": ("plan",)},
            f"--agent plan: unknown agent 'plan' (did you mean 'plain'?); known: {AGENTS}",
        ),
    ],
)
def test_options_that_do_not_fit_are_problems(
    folder: Folder, selection: dict[str, Any], message: str
) -> None:
    assert folder.problems(MINIMAL, **selection) == [f"evals/eval_x.yaml: {message}"]


def test_no_model_at_all_says_how_to_give_one(folder: Folder) -> None:
    assert folder.problems("dataset: {type: toy}\n") == [
        "evals/eval_x.yaml:1: no model: give --model or agent.config.model"
    ]
    [job] = folder.load("dataset: {type: toy}\n", models=("m",))
    assert job.agent.config == AgentConfig(model="m")


def test_the_snapshot_has_every_key_of_prompt_sirens_and_ours(folder: Folder) -> None:
    [job] = folder.load(
        """\
dataset: {type: toy, config: {version: v2}}
agent: {config: {model: m}}
attack: {name: loud, type: echo}
runs: 2
usage_limits: {cost_limit: 0.5}
sandbox_manager: {type: local-docker}
slurm: {partition: p}
output: {job_name: j}
gates: [asr <= 0.05]
"""
    )
    assert job.snapshot == {
        "name": "eval_x",
        "dataset": {"type": "toy", "config": {"version": "v2"}},
        "agent": {"type": "plain", "config": {"model": "m"}},
        "attack": {"type": "echo", "config": {}},
        "sandbox_manager": {"type": "local-docker", "config": {}},
        "execution": {"concurrency": 16, "n_runs_per_task": 2},
        "task_ids": None,
        "output": {"jobs_dir": "jobs", "job_name": "j"},
        "telemetry": {"trace_console": False, "otel_endpoint": None},
        "logging": {"level": "INFO", "file": True},
        "usage_limits": {"request_limit": 50, "cost_limit": "0.5"},
        "slurm": {
            "partition": "p",
            "time_minutes": 240,
            "gpus_per_node": 0,
            "cpus_per_task": 4,
            "mem_gb": 32,
            "constraint": None,
            "additional_parameters": {},
        },
        "eval_file": "evals/eval_x.yaml",
        "attack_name": "loud",
        "runs": 2,
        "pass_when": {"benign": "benign_score >= 1.0", "attack": "attack_score < 1.0"},
        "tags": [],
        "gates": ["asr <= 0.05"],
        "cell": {},
    }
    assert json.loads(json.dumps(job.snapshot, allow_nan=False)) == job.snapshot


def test_what_prompt_siren_lacks_is_in_the_snapshot_where_it_is_given(folder: Folder) -> None:
    given = "slurm: {account: a, qos: q, array_parallelism: 2, setup: [module load x]}\n"
    [job] = folder.load(MINIMAL + given)
    ours = {"account": "a", "qos": "q", "array_parallelism": 2, "setup": ["module load x"]}
    assert ours.items() <= job.snapshot["slurm"].items()


def test_keys_without_effect_are_warned_of(folder: Folder) -> None:
    [job] = folder.load(
        f"{MINIMAL}tags: [x]\n"
        "execution:\n  concurrency: 4\n"
        "sandbox_manager: {type: local-docker}\nhydra: {a: '${now:x}'}\n"
    )
    assert job.warnings == (
        "line 6: sandbox_manager has no effect yet: nothing is sandboxed",
        "line 7: hydra has no effect yet: there is no Hydra here",
    )
    assert len(job.warnings) == len(UNSUPPORTED)
    folder.write("base.yaml", "hydra: {}\n")
    [job] = folder.load(
        f"{MINIMAL}include: base.yaml\n", sets=("sandbox_manager.type=local-docker",)
    )
    assert job.warnings == (
        "--set sandbox_manager.type=local-docker: sandbox_manager has no effect yet: "
        "nothing is sandboxed",
        "evals/base.yaml:1: hydra has no effect yet: there is no Hydra here",
    )
    [quiet] = folder.load(f"{MINIMAL}hydra: null\n")
    assert quiet.warnings == ()


def test_traces_and_logs_are_off_unless_asked_for(folder: Folder) -> None:
    [off] = folder.load(f"{MINIMAL}telemetry: {{}}\nlogging: {{file: false}}\n")
    assert (off.telemetry, off.log) == (None, None)
    [on] = folder.load(f"{MINIMAL}logging: {{}}\n", sets=("telemetry.trace_console=true",))
    assert on.telemetry is not None
    assert on.log is not None
    assert on.log.level == "INFO"
    assert (off.warnings, on.warnings) == ((), ())


def test_every_key_without_effect_is_in_the_schema() -> None:
    for key in UNSUPPORTED:
        section, _, rest = key.partition(".")
        assert section in EvalFile.model_fields
        assert not rest or rest in ExecutionSection.model_fields


def test_what_is_scored_beside_the_default_makes_another_job(folder: Folder) -> None:
    [default] = folder.load(MINIMAL)
    [same] = folder.load(MINIMAL + "finish: {length: unknown, refused: score}\n")
    [other] = folder.load(MINIMAL + "finish: {length: score, refused: score}\n")
    assert same.finish == {}
    assert job_identity(same) == job_identity(default)
    assert "finish" not in same.snapshot
    assert other.finish == other.snapshot["finish"] == {"length": "score"}
    assert job_identity(other) != job_identity(default)
    for wrong in (
        "{length: maybe}",
        "{cut: score}",
        "{length: null}",
        "score",
        "{complete: score}",
    ):
        [problem] = folder.problems(MINIMAL + f"finish: {wrong}\n")
        assert "finish" in problem
