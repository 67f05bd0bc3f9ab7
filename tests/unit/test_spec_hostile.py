"""Whatever a file or an override holds, loading returns jobs or raises ``SpecError``."""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_siren.spec.errors import SpecError
from pytest_siren.spec.jobspec import ConditionError, JobSpec, PassWhen, job_identity
from pytest_siren.spec.schema import EvalFile, ExecutionSection, UsageLimitsSection
from tests.unit.spec_sample import Folder

KEYS = [
    *EvalFile.model_fields,
    *ExecutionSection.model_fields,
    *UsageLimitsSection.model_fields,
    *("type", "config", "model", "tasks", "id", "prompt", "checks", "text", "benign", "toy", "<<"),
]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        [
            "toy",
            "plain",
            "echo",
            "direct",
            "always",
            "${env:HOME}",
            "${env:X",
            "eval_x.yaml",
            "../x",
        ]
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)
FILES = st.dictionaries(st.sampled_from(list(EvalFile.model_fields)), VALUES, max_size=8)
VALID = """\
dataset: &d {type: toy, config: {tasks: [{id: a, prompt: "x ${env:HOME}"}]}}
agent: {type: plain, config: {model: 'openai:gpt-5'}}
attacks: {mine: {type: echo, config: {text: "{{ goal }}"}}}
pass_when: {attack: attack_score < 1 and not benign_score == 0}
usage_limits: {request_limit: 3}
"""
ANY = settings(suppress_health_check=list(HealthCheck), database=None)


def load(text: str | bytes, **selection: Any) -> None:
    jobs: list[JobSpec] = []
    messages: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            jobs = Folder(Path(folder)).load(text, **selection)
        except SpecError as error:
            messages = str(error).split("\n")
            assert len(messages) == len(error.problems)  # noqa: PT017 - either outcome is right
    assert jobs or messages
    assert all(message.isprintable() for message in messages)
    for job in jobs:
        job_identity(job)
        json.dumps(job.snapshot, allow_nan=False)


@ANY
@given(st.text() | st.text(alphabet="[]{}&*-:?,|>'\"#!%@` \n\tab<"))
def test_any_text(text: str) -> None:
    load(text.encode("utf-8", "surrogatepass"))


@ANY
@given(st.binary())
def test_any_bytes(content: bytes) -> None:
    load(content)


@ANY
@given(FILES)
def test_any_values_under_known_keys(data: dict[str, Any]) -> None:
    load(yaml.safe_dump(data, sort_keys=False).encode("utf-8", "surrogatepass"))


@ANY
@given(VALUES, VALUES, VALUES)
def test_any_config_of_known_components(dataset: Any, agent: Any, attack: Any) -> None:
    data = {
        "dataset": {"type": "toy", "config": dataset},
        "agent": {"config": agent},
        "attack": {"type": "echo", "config": attack},
    }
    load(yaml.safe_dump(data).encode("utf-8", "surrogatepass"), models=("m",))


@ANY
@given(st.data())
def test_any_change_to_a_valid_file(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(VALID)))
    end = data.draw(st.integers(start, min(len(VALID), start + 30)))
    middle = data.draw(st.text(alphabet="[]{}&*-:?,|>'\"#!% \n\tab~<$d1", max_size=6))
    load(VALID[:start] + middle + VALID[end:])


@ANY
@given(st.lists(st.text(max_size=20), max_size=3))
def test_any_settings(sets: list[str]) -> None:
    load(VALID, sets=tuple(sets))


@ANY
@given(
    st.sampled_from(["", "+", "~"]),
    st.lists(st.sampled_from([*KEYS, "attack", "mine", "0", "1", "x"]), min_size=1, max_size=4),
    st.text(max_size=12) | st.sampled_from(["[a,b]", "{type: toy}", "1,2", "null"]),
)
def test_any_setting_of_known_keys(sign: str, keys: list[str], value: str) -> None:
    key = f"{sign}{'.'.join(keys)}"
    load(VALID, sets=(key if sign == "~" else f"{key}={value}",))


@ANY
@given(
    st.lists(st.text(max_size=8), max_size=2),
    st.lists(st.text(max_size=8), max_size=2),
    st.lists(st.text(max_size=8), max_size=2),
)
def test_any_names(attacks: list[str], models: list[str], agents: list[str]) -> None:
    load(VALID, attacks=tuple(attacks), models=tuple(models), agents=tuple(agents))


@ANY
@given(
    st.text()
    | st.lists(
        st.sampled_from(
            ["benign_score", "attack_score", "<", "==", "1", ".5", "and", "or", "not", "(", ")"]
        ),
        max_size=9,
    ).map(" ".join)
)
def test_any_condition(condition: str) -> None:
    with suppress(ConditionError):
        assert PassWhen(attack=condition).holds(True, 0.5, None) in (True, False, None)
