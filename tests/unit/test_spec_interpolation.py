"""``${env:VAR,default}`` in eval files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_siren.spec.overrides import interpolated
from pytest_siren.yamlpos.problems import Problem
from pytest_siren.yamlpos.reader import Place, node_of
from tests.unit.spec_sample import Folder

ENVIRON = {"NAME": "Ada", "NUMBER": "3", "LIST": "[1, 2]", "EMPTY": "", "NAN": ".nan"}
PLACE = Place(Path("f.yaml"), 7)


def fill(data: Any, path: tuple[str, ...] = ()) -> tuple[Any, list[str]]:
    problems: list[Problem] = []
    node = interpolated(node_of(data, PLACE), ENVIRON, problems, path)
    return node.plain(), [str(problem) for problem in problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${env:NAME}", "Ada"),
        ("${env:NUMBER}", 3),
        ("${env:NONE,4.5}", 4.5),
        ("${env:NONE,true}", True),
        ("${env:NONE,}", None),
        ("${env:EMPTY,x}", None),
        ("${env:NONE,a, b}", "a, b"),
        ("${env:NONE,a$b}", "a$b"),
        ("${env:LIST}", "[1, 2]"),
        ("v${env:NUMBER}", "v3"),
        ("${env:NAME} and ${env:NONE,Bob}", "Ada and Bob"),
        ("$${env:NAME}", "${env:NAME}"),
        ("x $${env:NAME} ${env:NAME}", "x ${env:NAME} Ada"),
        ("$${oc.env:NAME} $NAME ${NAME} {{ NAME }}", "${oc.env:NAME} $NAME ${NAME} {{ NAME }}"),
        # P22: OmegaConf's resolver means the same.
        ("${oc.env:NAME}", "Ada"),
        ("${oc.env:NUMBER}", 3),
        ("${oc.env:NONE, Bob }", "Bob"),
        ("${oc.env:NONE,'Bob'}", "Bob"),
        ("${oc.env:NONE,null}", None),
        ("openai:${oc.env:NONE,gpt-5}", "openai:gpt-5"),
        ("$${now:%Y}", "${now:%Y}"),
        ("$${output.jobs_dir}", "${output.jobs_dir}"),
        ("$${model}", "${model}"),
    ],
)
def test_references_are_filled_in_and_a_lone_one_is_typed(text: str, value: Any) -> None:
    filled, problems = fill({"a": [text]})
    assert problems == []
    assert filled == {"a": [value]}
    assert type(filled["a"][0]) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "${env:NONE}",
            "the environment variable NONE is not set, and ${env:NONE} has no default",
        ),
        (
            "x${env:NONE}",
            "the environment variable NONE is not set, and ${env:NONE} has no default",
        ),
        ("${env:}", "'${env:}' is malformed; write ${env:NAME} or ${env:NAME,default}"),
        ("${env:1X}", "'${env:1X}' is malformed; write ${env:NAME} or ${env:NAME,default}"),
        ("${env:X", "'${env:X' is malformed; write ${env:NAME} or ${env:NAME,default}"),
        (
            "${env:A,${env:B}}",
            "'${env:A,${env:B}' is malformed; write ${env:NAME} or ${env:NAME,default}",
        ),
        (
            "${oc.env:NONE}",
            "the environment variable NONE is not set, and ${oc.env:NONE} has no default",
        ),
        (
            "${now:%Y-%m-%d}",
            "'${now:%Y-%m-%d}' cannot be filled in: there is no Hydra here, and only ${env:NAME} "
            "and ${oc.env:NAME} are known; $${now:...} is the text itself",
        ),
        (
            "a ${hydra:job.num}",
            "'${hydra:job.num}' cannot be filled in: there is no Hydra here, and only ${env:NAME} "
            "and ${oc.env:NAME} are known; $${hydra:...} is the text itself",
        ),
        (
            "${oc.decode:${oc.env:NAME}}",
            "'${oc.decode:${oc.env:NAME}' cannot be filled in: there is no Hydra here, and only "
            "${env:NAME} and ${oc.env:NAME} are known; $${oc.decode:...} is the text itself",
        ),
        (
            "x/${output.jobs_dir}",
            "'${output.jobs_dir}' is a reference of Hydra to another key, and Hydra is not used "
            "here: write the value; $${output.jobs_dir} is the text itself, and ${env:NAME} an "
            "environment variable",
        ),
        (
            "${model}",
            "'${model}' is a reference of Hydra to another key, and Hydra is not used here: write "
            "the value; $${model} is the text itself, and ${env:NAME} an environment variable",
        ),
        ("${env:NAN}", "'.nan' is not a finite number (put text in quotes)"),
    ],
)
def test_what_cannot_be_filled_in_is_a_problem_at_its_key(text: str, message: str) -> None:
    assert fill({"agent": {"x": text}}) == (
        {"agent": {"x": text}},
        [f"f.yaml:7: agent.x: {message}"],
    )


@pytest.mark.parametrize(
    "path",
    [
        ("dataset", "config", "tasks"),
        ("dataset", "config", "malicious_tasks"),
        ("dataset", "config", "vectors"),
        ("attack", "config", "attack_template"),
        ("attack", "config", "attacks"),
        ("config", "attack_template"),
    ],
)
def test_texts_of_tasks_and_attacks_never_read_the_environment(path: tuple[str, ...]) -> None:
    assert fill({"prompt": "${env:NAME} ${env:NONE} $${env:X}"}, path) == (
        {"prompt": "${env:NAME} ${env:NONE} $${env:X}"},
        [],
    )


def test_other_keys_of_a_dataset_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIREN_TEST_VERSION", "v2")
    text = """\
dataset:
  type: toy
  config:
    version: ${env:SIREN_TEST_VERSION}
    limit: ${env:SIREN_TEST_LIMIT,5}
    tasks: [{id: a, prompt: "${env:SIREN_TEST_VERSION}"}]
agent: {config: {model: "${env:SIREN_TEST_MODEL,p:m}"}}
"""
    [job] = Folder(tmp_path).load(text)
    assert job.dataset.raw == {
        "version": "v2",
        "limit": 5,
        "tasks": [{"id": "a", "prompt": "${env:SIREN_TEST_VERSION}"}],
    }
    assert job.model == "p:m"


def test_a_missing_variable_is_reported_with_all_other_problems(tmp_path: Path) -> None:
    text = "dataset: {type: toy}\nrnus: 1\nagent:\n  config:\n    model: ${env:SIREN_TEST_NONE}\n"
    assert Folder(tmp_path).problems(text) == [
        "evals/eval_x.yaml:2: unknown key 'rnus' (did you mean 'runs'?)",
        "evals/eval_x.yaml:5: agent.config.model: the environment variable SIREN_TEST_NONE is not "
        "set, and ${env:SIREN_TEST_NONE} has no default",
    ]


def test_overrides_are_filled_in_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIREN_TEST_LIMIT", "7")
    text = "dataset: {type: toy}\nagent: {config: {model: m}}\n"
    [job] = Folder(tmp_path).load(text, sets=("dataset.config.limit=${env:SIREN_TEST_LIMIT}",))
    assert job.dataset.raw == {"limit": 7}


def test_a_secret_that_a_record_withholds_has_to_be_given() -> None:
    data = {"agent": {"config": {"api_key": "<redacted>"}}, "invocation": {"set": ["<redacted>"]}}
    message = "f.yaml:7: agent.config.api_key: the secret is not in the record: write ${env:NAME}"
    filled, problems = fill(data)
    assert filled == data
    assert problems == [f"{message} for it"]
    prompt = {"dataset": {"config": {"tasks": [{"prompt": "say <redacted>"}]}}}
    assert fill(prompt) == (prompt, [])
