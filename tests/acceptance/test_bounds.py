"""What would take all time or memory is an error of its run, and of nothing else."""

from __future__ import annotations

import signal

import pytest

from tests.acceptance.conftest import Project
from tests.acceptance.test_stopping import Session

TEMPLATES = """
dataset:
  type: inline
  config:
    name: tpl
    tasks:
      - {id: a, prompt: "go {v}", vectors: {v: x}, evaluators: [{type: contains, value: fin}],
         ground_truth: {output: fin}}
    malicious_tasks:
      - {id: m, goal: GOAL, evaluators: [{type: contains, value: zzz}], ground_truth: {output: zzz}}
attacks:
  - {name: loops, type: template_string, config: {attack_template:
      "{% set s='a'*200000 %}{% for a in s %}{% for b in s %}{% endfor %}{% endfor %}"}}
  - {name: memory, type: template_string, config: {attack_template:
      "{% set n = namespace(x='a')%}{% for i in range(31) %}{% set n.x = n.x ~ n.x %}{% endfor %}"}}
  - {name: plain, type: template_string, config: {attack_template: "{{ goal }}"}}
agent: {type: plain, config: {model: "control:ground-truth"}}
"""
SLOW_PATTERN = "(x+x+)+y"
EVALUATORS = f"""
dataset:
  type: inline
  config:
    name: patterns
    tasks:
      - {{id: slow, prompt: "{"x" * 5_000}",
          evaluators: [{{type: regex, pattern: "{SLOW_PATTERN}"}}]}}
      - {{id: schema, prompt: '"{"x" * 5_000}"',
          evaluators: [{{type: json_schema, schema: {{pattern: "{SLOW_PATTERN}"}}}}]}}
      - {{id: quick, prompt: "noon", evaluators: [{{type: contains, value: noon}}]}}
agent: {{type: plain, config: {{model: "scripted:echo"}}}}
"""


@pytest.mark.inside
def test_a_template_that_takes_too_much_harms_no_other_run(project: Project) -> None:
    project.write("evals/eval_mail.yaml", TEMPLATES)
    result = project.run("evals", "--attack=loops,memory,plain")
    result.assert_outcomes(passed=1, errors=2)
    result.stdout.fnmatch_lines_random(
        [
            "*line 1: the template took more than 5,000,000 steps; record*",
            "*line 1: the template made more than 200,000 characters; record*",
        ]
    )


@pytest.mark.inside
def test_the_run_timeout_holds_while_an_evaluator_works(project: Project) -> None:
    project.write("evals/eval_mail.yaml", EVALUATORS)
    result = project.run("evals", "--siren-run-timeout=1")
    result.assert_outcomes(passed=1, errors=2)
    statuses = {found["task_id"]: found["status"] for found in project.results()}
    assert statuses == {"quick": "scored", "schema": "error", "slow": "error"}
    assert "RunTimeoutError" in result.stdout.str()


def test_ctrl_c_ends_a_session_whose_evaluators_work(project: Project) -> None:
    project.write("evals/eval_mail.yaml", EVALUATORS)
    session = Session(project, "evals")
    session.wait_for(asked=0, recorded=1)
    session.process.send_signal(signal.SIGINT)
    assert session.end() == pytest.ExitCode.INTERRUPTED
    statuses = {found["task_id"]: found["status"] for found in project.results()}
    assert statuses["quick"] == "scored"
