"""prompt-siren's files as eval files: their parts, presets by name, jobs' own files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_siren.attacks.template_string import TemplateStringAttack, TemplateStringConfig
from pytest_siren.evaluation.components import Component, Kind, Registry
from pytest_siren.spec.components import Selection
from pytest_siren.spec.jobs import load_jobs
from pytest_siren.spec.jobspec import JobSpec, job_identity
from tests.unit.spec_sample import Folder, ToyConfig
from tests.unit.theirs_sample import ATTACK, TheirJob

THEIRS = """\
# @package _global_
defaults:
  - _self_
  - dataset: mine
  - sandbox_manager: local-docker
  - override hydra/job_logging: none
hydra:
  run: {dir: .}
  sweep: {dir: "${output.jobs_dir}/multirun/${now:%Y-%m-%d}"}
name: default_experiment
agent:
  type: plain
  config: {model: "${oc.env:SIREN_TEST_MODEL,p:m}", model_settings: {}}
execution: {concurrency: 1, n_runs_per_task: 1}
task_ids: null
output: {jobs_dir: jobs}
usage_limits: {request_limit: null, count_tokens_before_request: false}
"""


def real() -> Registry:
    """Return a registry with the real components, and a small dataset."""
    own = Registry()
    own.add(Kind.DATASET, "toy", Component(ToyConfig, lambda config, base: None))
    return own


def load(folder: Folder, text: str, **selection: Any) -> list[JobSpec]:
    return folder.load(text, real(), **selection)


def problems(folder: Folder, text: str) -> list[str]:
    return folder.problems(text, real())


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path)
    made.write("dataset/mine.yaml", "type: toy\nconfig: {version: v1, limit: 1}\n")
    made.write("dataset/other.yaml", "type: toy\nconfig: {version: v2}\n")
    made.write("sandbox_manager/local-docker.yaml", "type: local-docker\nconfig: {a: 1}\n")
    return made


def test_their_file_is_composed(folder: Folder) -> None:
    """P4, P9, P22: presets of datasets and sandbox managers by name."""
    [job] = load(folder, THEIRS)
    assert job.dataset.raw == {"version": "v1", "limit": 1}
    assert job.model == "p:m"
    assert job.usage_limits["request_limit"] is None
    assert job.snapshot["sandbox_manager"] == {"type": "local-docker", "config": {"a": 1}}
    assert [warning.split(" has ")[0].split(": ")[-1] for warning in job.warnings] == [
        *("sandbox_manager", "hydra")
    ]


@pytest.mark.parametrize("key", ["dataset", "+dataset"])
def test_a_preset_is_named_on_the_command_line(folder: Folder, key: str) -> None:
    """P4: later overrides change what it holds, and a sweep takes several."""
    text = "agent: {config: {model: m}}\n"
    [job] = load(folder, text, sets=(f"{key}=mine", "dataset.config.limit=5"))
    assert job.dataset.raw == {"version": "v1", "limit": 5}
    swept = load(folder, text, sets=(f"{key}=mine,other",))
    assert [one.dataset.raw["version"] for one in swept] == ["v1", "v2"]


def test_built_in_presets_of_agentdojo(folder: Folder) -> None:
    [job] = load(folder, "dataset: agentdojo-banking\nagent: {config: {model: m}}\n")
    assert job.dataset.raw == {"suite_name": "banking", "version": "v1.2.2"}


@pytest.mark.parametrize(
    ("defaults", "own", "version", "limit"),
    [
        ("[{dataset: mine}, _self_]", "dataset: {type: toy, config: {limit: 7}}", "v1", 7),
        ("[{dataset: mine}]", "dataset: {type: toy, config: {limit: 7}}", "v1", 7),
        ("[_self_, {dataset: mine}]", "dataset: {type: toy, config: {limit: 7}}", "v1", 1),
        ("[{dataset: mine}, {override dataset: other}]", "", "v2", None),
        ("[dataset: [mine]]", "", "v1", 1),
        ("[dataset@_global_: whole]", "", "v2", 3),
        ("[dataset: placed]", "", "v2", 4),
        ("[/base, {optional dataset: absent}, {hydra/launcher: x}]", "", "v2", 5),
        ("[{dataset@dataset: mine}]", "", "v1", 1),
    ],
)
def test_defaults_are_composed_in_their_order(
    folder: Folder, defaults: str, own: str, version: str, limit: int | None
) -> None:
    whole = "dataset: {type: toy, config: {version: v2, limit: %d}}\n"
    folder.write("dataset/whole.yaml", whole % 3)
    folder.write("dataset/placed.yaml", "# @package _global_\n" + whole % 4)
    folder.write("base.yaml", whole % 5)
    [job] = load(folder, f"defaults: {defaults}\n{own}\nagent: {{config: {{model: m}}}}\n")
    assert job.dataset.raw.get("version") == version
    assert job.dataset.raw.get("limit") == limit


def test_a_preset_that_is_nowhere_is_a_problem_with_the_names_that_are(folder: Folder) -> None:
    [problem] = problems(folder, "defaults: [{dataset: mien}]\nagent: {config: {model: m}}\n")
    assert "1: unknown dataset 'mien' (did you mean 'mine'?); known: agentdojo, " in problem


def test_what_is_mandatory_must_be_given(folder: Folder) -> None:
    """P22, P31: ``???`` stands for no value."""
    folder.write("dataset/open.yaml", "type: toy\nconfig: {version: v1}\n")
    text = "dataset: mine\nname: ???\nagent: {config: {model: '???'}}\n"
    assert problems(folder, text) == [
        "evals/eval_x.yaml:2: name must be given: --set name=VALUE ('???' marks a missing value)",
        "evals/eval_x.yaml:3: agent.config.model must be given: "
        "--set agent.config.model=VALUE ('???' marks a missing value)",
    ]
    [job] = load(folder, text, sets=("name=x", "agent.config.model=m"))
    assert job.name == "x"
    folder.write("attack/later.yaml", "type: file\nconfig: {file_path: '???'}\n")
    text = "dataset: mine\nagent: {config: {model: m}}\nattack: later\n"
    [problem] = problems(folder, text)
    assert "attack.config.file_path must be given" in problem
    [job] = load(folder, text, sets=("attack.config.file_path=a.json",))
    assert job.attack is not None
    assert job.attack.raw == {"file_path": "a.json"}


@pytest.mark.parametrize("key", ["attacks", "attacks_by_task"])
def test_dict_attacks_have_their_keys(folder: Folder, key: str) -> None:
    """P31: ``attacks_by_task`` and ``attack_name``; contents are never filled in."""
    contents = {"b:m": {"mail": {"content": "${env:HOME} ${now:x}", "kind": "str"}}}
    attack = {"type": "dict", "config": {key: contents, "attack_name": "pair"}}
    text = yaml.safe_dump(
        {"dataset": "mine", "agent": {"config": {"model": "m"}}, "attack": attack}
    )
    [job] = load(folder, text)
    assert job.attack is not None
    assert job.attack.name == "pair"
    config: Any = job.attack.config
    assert config.couples["b:m"]["mail"].content == "${env:HOME} ${now:x}"


def test_dict_attacks_without_contents_or_with_binary_ones_are_refused(folder: Folder) -> None:
    """P31: binary contents are refused clearly."""
    head = "dataset: mine\nagent: {config: {model: m}}\nattack:\n  type: dict\n  config: "
    assert "missing key 'attacks'" in problems(folder, head + "{attack_name: x}\n")[0]
    binary = "{attacks_by_task: {'b:m': {v: {content: aGk=, media_type: image/png, kind: binary}}}}"
    [problem] = problems(folder, head + binary + "\n")
    assert "binary content cannot be planted; injection vectors take text" in problem


@pytest.mark.parametrize("attack", [None, ATTACK])
def test_their_jobs_configuration_is_an_eval_file(folder: Folder, attack: Any) -> None:
    toy = {"type": "toy", "config": {"version": "v1"}}
    job = TheirJob(folder.path / "job", attack, toy, "p:m", runs=3)
    [spec] = load(folder, (job.path / "config.yaml").read_text())
    assert (spec.runs, spec.model, spec.dataset.raw) == (3, "p:m", {"version": "v1"})
    assert (spec.attack and spec.attack.name) == (attack and "please")
    assert spec.base == Path.cwd()


def test_a_job_in_benign_mode_has_no_attack(folder: Folder) -> None:
    toy = {"type": "toy", "config": {}}
    job = TheirJob(folder.path / "job", ATTACK, toy, "p:m", changes={"execution_mode": "benign"})
    [spec] = load(folder, (job.path / "config.yaml").read_text())
    assert spec.attack is None


def test_our_jobs_configuration_makes_the_same_job(folder: Folder) -> None:
    text = """\
dataset: mine
agent: {config: {model: m}}
attacks:
  called: {type: template_string, config: {attack_template: "{{ goal }}"}}
runs: 2
usage_limits: {request_limit: 3}
"""
    [before] = load(folder, text)
    recorded = {
        **before.snapshot,
        "eval_file": f"{folder.path.name}/eval_x.yaml",
        "job_name": "j",
        "execution_mode": "attack",
        "created_at": "2026-01-02T03:04:05+00:00",
        "n_runs_per_task": 2,
        "session_id": "s",
        "identity": "i",
        "schema_version": 1,
        "invocation": {"args": []},
        "planned_runs": 4,
    }
    folder.write("job/config.yaml", yaml.safe_dump(recorded))
    shown = Path(folder.path.name, "job/config.yaml")
    [after] = load_jobs(folder.path / "job/config.yaml", shown, real(), Selection())
    assert job_identity(after) == job_identity(before)
    assert (after.runs, after.usage_limits, after.attack and after.attack.name) == (
        *(2, before.usage_limits),
        "called",
    )
    assert after.base == folder.path


@pytest.mark.parametrize("session_id", [None, ""])
def test_their_templates_lose_the_newline_at_the_end(
    folder: Folder, session_id: str | None
) -> None:
    """As Jinja has it there; a job that was resumed here is the same job."""
    toy = {"type": "toy", "config": {"version": "v1"}}
    ours = {} if session_id is None else {"session_id": "", "schema_version": 1, "eval_file": "x"}
    job = TheirJob(folder.path / "job", ATTACK, toy, "p:m", changes=ours)
    [spec] = load(folder, (job.path / "config.yaml").read_text())
    assert spec.attack is not None
    config: Any = spec.attack.config
    assert config.keep_trailing_newline is False
    assert spec.base == Path.cwd()


def test_a_newline_at_the_end_stays_by_default() -> None:
    texts = []
    for keep in (True, False):
        config = TemplateStringConfig(attack_template="{{ goal }}\n\n", keep_trailing_newline=keep)
        attack: Any = TemplateStringAttack(config)
        texts.append(attack._template.render(goal="g", user="u", model="m"))
    assert texts == ["g\n\n", "g\n"]
