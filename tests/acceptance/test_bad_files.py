"""Eval files with mistakes: a collection error that says what, where, and what is near."""

from __future__ import annotations

import pytest

from tests.acceptance.conftest import Project, with_workers

pytestmark = pytest.mark.inside

MISTAKES = [
    ("runs: 0", "runs: many", "evals/eval_bad.yaml:{line}: wrong type for runs*"),
    (
        "runs: 0",
        "runss: 2",
        "evals/eval_bad.yaml:{line}: unknown key 'runss' (did you mean 'runs'?)",
    ),
    (
        "prompt: Hello",
        "promt: Hello",
        "evals/eval_bad.yaml:{line}: unknown key 'promt' in dataset.config.tasks[[]0] "
        "(did you mean 'prompt'?)",
    ),
    (
        "prompt: Hello",
        'prompt: ""',
        "evals/eval_bad.yaml:{line}: *dataset.config.tasks[[]0].prompt*",
    ),
    ("id: b", "id: a", "evals/eval_bad.yaml:{line}: *the id 'a' is already taken by tasks[[]0]*"),
    (
        "type: inline",
        "type: inlien",
        "evals/eval_bad.yaml:{line}: unknown dataset 'inlien' (did you mean 'inline'?)*",
    ),
    (
        "type: plain",
        "type: plian",
        "evals/eval_bad.yaml:{line}: unknown agent 'plian' (did you mean 'plain'?)*",
    ),
    (
        "type: contains",
        "type: contians",
        "evals/eval_bad.yaml:{line}: *'contians'*did you mean 'contains'?*",
    ),
    ("runs: 0", "runs: [1", "evals/eval_bad.yaml:*: invalid YAML: *"),
]

GOOD = """\
runs: 0
dataset:
  type: inline
  config:
    tasks:
      - id: a
        prompt: Hello
        evaluators: {e: {
          type: contains, value: x}}
      - id: b
        prompt: World
agent:
  type: plain
  config: {model: "scripted:echo"}
"""


@pytest.mark.parametrize(("right", "wrong", "message"), MISTAKES, ids=lambda part: part[:20])
def test_a_mistake_is_named_with_its_place(
    project: Project, right: str, wrong: str, message: str
) -> None:
    (project.path / "evals" / "eval_mail.yaml").unlink()
    text = GOOD.replace(right, wrong).replace("runs: 0", "runs: 1")
    assert wrong in text
    project.write("evals/eval_bad.yaml", text)
    result = project.run("evals")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    line = 1 + text[: text.rindex(wrong)].count("\n")
    result.stdout.fnmatch_lines([message.format(line=line)])
    assert "Traceback" not in result.stdout.str()
    assert not (project.path / "jobs").exists()


@with_workers
def test_all_mistakes_of_a_file_are_shown_at_once_under_xdist_too(distributed: Project) -> None:
    distributed.write("evals/eval_bad.yaml", "runss: 2\ndataset: {type: inlien}\nagent: 7\n")
    result = distributed.run("evals")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert not (distributed.path / "jobs").exists()
    result.stdout.fnmatch_lines(
        [
            "evals/eval_bad.yaml:1: unknown key 'runss' (did you mean 'runs'?)",
            "evals/eval_bad.yaml:2: unknown dataset 'inlien' (did you mean 'inline'?)*",
            "evals/eval_bad.yaml:3: *agent*",
        ]
    )


def test_an_unknown_attack_lists_the_presets(project: Project) -> None:
    result = project.run("evals", "--attack=templat_string")
    result.stdout.fnmatch_lines(
        ["*unknown attack 'templat_string' (did you mean 'template_string'?)*direct*"]
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--task-ids=sumary"], "*mail has no task 'sumary' (did you mean 'summary'?)"),
        (["--model="], "ERROR: --model has an empty name"),
        (["--model=control:hijack"], "*unknown control 'hijack'*known: ground-truth, hijacked*"),
        (["--model=local:smollm"], "*unknown local model 'smollm'*smollm2-135m*"),
        (["--model=replay:nowhere"], "*replay:nowhere: there is nothing at *nowhere*"),
        (["--set", "dataset.config.nmae=x"], "*unknown key 'nmae'*did you mean 'name'?*"),
    ],
)
def test_a_wrong_name_on_the_command_line_names_the_nearest(
    project: Project, args: list[str], message: str
) -> None:
    result = project.run("evals", *args)
    assert result.ret in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.USAGE_ERROR)
    lines = result.outlines + result.errlines
    pytest.LineMatcher(lines).fnmatch_lines([message])
    assert "Traceback" not in result.stdout.str()


def test_other_yaml_files_are_left_alone_unless_named(project: Project) -> None:
    text = (project.path / "evals" / "eval_mail.yaml").read_text()
    project.write("evals/other.yaml", text)
    project.write("evals/settings.yml", "just: settings\n")
    project.run("evals").assert_outcomes(passed=2)
    project.run("evals/other.yaml").assert_outcomes(passed=2)
    assert project.run("evals/settings.yml").ret == pytest.ExitCode.INTERRUPTED


def test_two_runs_with_one_id_are_refused(project: Project) -> None:
    project.write("a/one/result.json", "{}")
    project.write("b/one/result.json", "{}")
    result = project.run("evals", "--model=replay:a/one,replay:b/one")
    result.stdout.fnmatch_lines(["*two runs have the id summary[[]benign-replay:one-run0]*"])


HOURS = """
dataset:
  type: inline
  config:
    name: desk
    tasks:
      - {id: hours, prompt: "noon", evaluators: {it: {type: contains, value: noon}}}
agent: {config: {model: "scripted:echo"}}
gates: ["utility >= 0.01"]
"""


@pytest.mark.parametrize(
    "dist", [[], pytest.param(["-n2"], marks=pytest.mark.nightly)], ids=["alone", "-n2"]
)
def test_a_task_id_has_to_be_in_one_of_the_eval_files(project: Project, dist: list[str]) -> None:
    project.write("evals/eval_desk.yaml", HOURS)
    result = project.run("evals", "--task-ids=hours", *dist)
    result.assert_outcomes(passed=1)
    wrong = project.run("evals", "--task-ids=hours,replay", *dist)
    assert wrong.ret in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.TESTS_FAILED)
    wrong.stdout.fnmatch_lines(
        ["neither desk nor mail has the task 'replay' (did you mean 'reply'?)", "*1 error*"]
    )
    assert len(project.results()) == 1


def test_the_gate_of_an_eval_file_without_the_task_is_not_asked(project: Project) -> None:
    project.write("evals/eval_desk.yaml", HOURS)
    result = project.run("evals", "--task-ids=reply")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.no_fnmatch_line("*utility >= 0.01*")


def test_a_task_id_of_a_file_itself_has_to_be_in_it(project: Project) -> None:
    project.write("evals/eval_desk.yaml", HOURS + "task_ids: [reply]\n")
    result = project.run("evals")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*eval_desk.yaml: desk has no task 'reply'"])
