"""The key ``sweep``: what its axes, ranges and trials come to."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from pytest_siren.evaluation.components import Registry
from pytest_siren.spec.components import Selection
from pytest_siren.spec.errors import SpecError
from pytest_siren.spec.jobs import load_jobs
from pytest_siren.spec.jobspec import JobSpec, job_identity

BASE = """\
dataset:
  type: inline
  config:
    tasks:
      - {id: a, prompt: "{b}", vectors: {b: ""}, evaluators: &e {e: {type: contains, value: a}}}
    malicious_tasks: [{id: bad, goal: g, evaluators: *e}]
agent: {config: {model: "openai:gpt-5"}}
attacks:
  - {name: shout, type: template_string, config: {attack_template: "{{ goal }}"}}
  - {name: beg, type: template_string, config: {attack_template: "please {{ goal }}"}}
runs: 2
"""
TEMPERATURE = "agent.config.model_settings.temperature"


def jobs(folder: Path, sweep: str, base: str = BASE, **chosen: Any) -> list[JobSpec]:
    path = folder / "eval_x.yaml"
    path.write_text(base + dedent(sweep))
    return load_jobs(path, Path("eval_x.yaml"), Registry(), Selection(**chosen))


def told(found: list[JobSpec]) -> list[tuple[Any, ...]]:
    return [
        (job.model.partition(":")[2], job.attack and job.attack.name, job.runs, dict(job.cell))
        for job in found
    ]


def problems(folder: Path, sweep: str, **chosen: Any) -> list[str]:
    with pytest.raises(SpecError) as raised:
        jobs(folder, sweep, **chosen)
    return [str(problem) for problem in raised.value.problems]


def test_models_and_attacks_multiply_and_need_no_label(tmp_path: Path) -> None:
    found = jobs(tmp_path, "sweep: {model: ['openai:a', 'openai:b'], attack: [shout, beg], }\n")
    assert told(found) == [
        ("a", "shout", 2, {}),
        ("a", "beg", 2, {}),
        ("b", "shout", 2, {}),
        ("b", "beg", 2, {}),
    ]
    assert len({job_identity(job) for job in found}) == 4


def test_a_sweep_makes_the_same_jobs_as_set(tmp_path: Path) -> None:
    sweep = jobs(tmp_path, f"sweep: {{{TEMPERATURE}: [0.5, 1]}}\n", attacks=("shout",))
    by_set = jobs(tmp_path, "", attacks=("shout",), sets=(f"{TEMPERATURE}=0.5,1",))
    assert told(sweep) == told(by_set)
    assert [job_identity(job) for job in sweep] == [job_identity(job) for job in by_set]
    assert [job.cell for job in sweep] == [{TEMPERATURE: "0.5"}, {TEMPERATURE: "1"}]


def test_temps_is_another_name_of_temperature(tmp_path: Path) -> None:
    found = jobs(tmp_path, "sweep: {temps: [0.5, 1]}\n", attacks=("shout",))
    assert [job.cell for job in found] == [{TEMPERATURE: "0.5"}, {TEMPERATURE: "1"}]


def test_each_temperature_may_have_runs_of_its_own(tmp_path: Path) -> None:
    sweep = """
    sweep:
      attack: [shout]
      temperature: [{value: 0, runs: 1}, 0.5, {value: 1.0, runs: 9, name: hot}]
    """
    found = jobs(tmp_path, sweep)
    assert [(job.runs, job.cell[TEMPERATURE]) for job in found] == [
        (1, "0"),
        (2, "0.5"),
        (9, "hot"),
    ]
    assert [job.runs for job in jobs(tmp_path, sweep, runs=3)] == [3, 3, 3]


def test_null_is_the_benign_job_once(tmp_path: Path) -> None:
    found = jobs(
        tmp_path,
        """
        sweep:
          attack: [null, shout]
          attack.config.attack_template: ["{{ goal }}!", "{{ goal }}?"]
        """,
    )
    key = "attack.config.attack_template"
    assert told(found) == [
        ("gpt-5", None, 2, {}),
        ("gpt-5", "shout", 2, {key: "{{ goal }}!"}),
        ("gpt-5", "shout", 2, {key: "{{ goal }}?"}),
    ]


@pytest.mark.parametrize(
    ("written", "values"),
    [
        ("{from: 0, to: 1, step: 0.25}", [0.0, 0.25, 0.5, 0.75, 1.0]),
        ("{from: 0.1, to: 0.35, step: 0.1}", [0.1, 0.2, 0.3]),
        ("{from: 3, to: 1, step: -1}", [3, 2, 1]),
        ("{linspace: [0, 1, 5]}", [0.0, 0.25, 0.5, 0.75, 1.0]),
        ("{linspace: [1, 3, 3]}", [1, 2, 3]),
    ],
)
def test_ranges_are_exact(tmp_path: Path, written: str, values: list[float]) -> None:
    found = jobs(tmp_path, f"sweep: {{temperature: {written}}}\n", attacks=("shout",))
    made = [job.agent.raw["model_settings"]["temperature"] for job in found]
    assert made == values
    assert [type(value) for value in made] == [type(value) for value in values]


def test_trials_win_over_axes(tmp_path: Path) -> None:
    found = jobs(
        tmp_path,
        """
        sweep:
          temperature: [0, 1]
          trials:
            - {model: "openai:a", attack: shout, runs: 5}
            - {model: "openai:b", attack: beg, temperature: 0.3}
        """,
    )
    assert told(found) == [("a", "shout", 5, {}), ("b", "beg", 2, {TEMPERATURE: "0.3"})]
    assert any("trials win over its axes: temperature" in one for one in found[0].warnings)


def test_options_win_over_axes(tmp_path: Path) -> None:
    sweep = "sweep: {model: ['openai:a', 'openai:b'], attack: [shout, beg], temperature: [0, 1]}\n"
    found = jobs(tmp_path, sweep, models=("openai:c",), benign=True, sets=(f"{TEMPERATURE}=0.7",))
    assert told(found) == [("c", None, 2, {})]
    assert len(jobs(tmp_path, sweep, sets=("~sweep",))) == 2
    trials = "sweep: {trials: [{model: 'openai:a', runs: 3}, {model: 'openai:b', runs: 3}]}\n"
    assert len(jobs(tmp_path, trials, models=("openai:c",), attacks=("shout",))) == 1


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("sweep: 3", "sweep: 3 is not a mapping"),
        (
            "sweep: {runs: [1, 2]}",
            "sweep: 'runs' makes no other job; dataset, agent, attack, finish do",
        ),
        ("sweep: {agent.config.promt: [a]}", "unknown key 'promt' in agent.config"),
        ("sweep: {attack: [shuot]}", "unknown attack 'shuot' (did you mean 'shout'?)"),
        ("sweep: {model: []}", "sweep.model: the list is empty"),
        (
            "sweep: {model: x}",
            "sweep.model: 'x' is neither a list, nor {from, to, step}, nor "
            "{linspace: [FROM, TO, COUNT]}",
        ),
        ("sweep: {model: [3]}", "sweep.model: 3 is not a name"),
        ("sweep: {temperature: [0, 0]}", "sweep.temperature: '0' is given twice"),
        ("sweep: {temperature: [{value: 0, runs: 0}]}", "runs must be a number from 1 to"),
        ("sweep: {temperature: {from: 0, to: 1, step: 0}}", "step 0 does not lead from 0 to 1"),
        ("sweep: {temperature: {from: 0, to: 1, step: 1e-9}}", "values, 10,000 at most"),
        ("sweep: {temperature: {linspace: [0, 1]}}", "linspace is [0, 1], not [FROM, TO, COUNT]"),
        ("sweep: {model: [a], agent.config.model: [b]}", "another name of agent.config.model"),
        ("sweep: {trials: []}", "sweep.trials must be a list of mappings"),
        ("sweep: {trials: [{runs: 3}]}", "sweep.trials[0] must be a mapping of keys to values"),
        (
            "sweep: {temperature: [{value: 0, runs: 1}], model: [{value: 'openai:a', runs: 2}]}",
            "runs is 1 and 2 for the same cell",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, sweep: str, message: str) -> None:
    [found] = problems(tmp_path, f"{sweep}\n", attacks=() if "attack" in sweep else ("shout",))
    assert found.startswith("eval_x.yaml:12: ")
    assert message in found


def test_a_sweep_can_only_be_left_out_by_set(tmp_path: Path) -> None:
    [found] = problems(tmp_path, "", sets=("sweep.model=a,b",))
    assert "the sweep of an eval file can only be left out: ~sweep" in found
    [found] = problems(tmp_path, "", sets=("~sweep",))
    assert "there is no sweep to leave out" in found


def test_templates_of_a_sweep_do_not_read_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    [job] = jobs(
        tmp_path, "sweep: {attack.config.attack_template: ['${env:SECRET}']}\n", attacks=("shout",)
    )
    assert "hunter2" not in str(job.snapshot)


def test_the_snapshot_of_a_cell_sweeps_no_more(tmp_path: Path) -> None:
    found = jobs(tmp_path, "sweep: {model: ['openai:a', 'openai:b']}\n")
    assert all("sweep" not in job.snapshot for job in found)
