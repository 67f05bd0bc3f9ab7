"""``dict`` and ``file``: contents that are written down."""

from __future__ import annotations

import asyncio
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pytest_siren.attacks import dictionary, file
from pytest_siren.attacks.dictionary import AttackMissingWarning, DictAttack
from pytest_siren.attacks.file import AttackFileError, FileAttack
from pytest_siren.evaluation.components import Kind, Registry
from pytest_siren.models.control import ControlSource
from tests.unit.attack_sample import target
from tests.unit.inline_sample import HOSTILE

MODEL = ControlSource("ground-truth")


def by_dict(attacks: Any) -> DictAttack:
    built = dictionary.component.build(
        dictionary.component.config.model_validate({"attacks": attacks}), Path()
    )
    assert isinstance(built, DictAttack)
    return built


def by_file(base: Path, content: Any, name: str = "attacks.json") -> FileAttack:
    text = content if isinstance(content, str) else json.dumps(content)
    (base / name).write_text(text, encoding="utf-8")
    built = file.component.build(file.component.config.model_validate({"file_path": name}), base)
    assert isinstance(built, FileAttack)
    return built


def file_error(base: Path, content: Any) -> str:
    with pytest.raises(AttackFileError) as caught:
        by_file(base, content)
    return str(caught.value)


ATTACKS = {
    "b:m": {"mail": HOSTILE, "page": {"content": "two", "kind": "str"}},
    "b:n": {"page": {"content": "three", "kind": "text"}},
    "c:m": {"page": {"content": ""}},
}


def test_contents_are_planted_per_couple_as_they_are() -> None:
    attack = by_dict(ATTACKS)
    assert attack.contents(target()) == {"mail": HOSTILE, "page": "two"}
    assert attack.contents(target(malicious="n")) == {"page": "three"}
    assert attack.contents(target(benign="c")) == {"page": ""}
    assert attack.recording(MODEL) is None


@pytest.mark.parametrize("attacks", [{"b:x": {"mail": "x"}}, {"b:m": {}, "b:x": {"mail": "x"}}])
def test_a_couple_without_contents_warns_and_is_not_attacked(attacks: Any) -> None:
    with pytest.warns(AttackMissingWarning) as caught:
        assert by_dict(attacks).contents(target()) == {}
    assert str(caught[0].message) == (
        "attack dict: no contents for the couple 'b:m'; its attack score is unknown"
    )


@pytest.mark.parametrize(
    ("attacks", "place", "message"),
    [
        ({}, (), "at least 1 item"),
        ([], (), "valid dictionary"),
        ({"b": {"mail": "x"}}, ("b", "[key]"), "'b' is not the id of a couple; write benign_id:"),
        ({"b:m": {"": "x"}}, ("b:m", "", "[key]"), "at least 1 character"),
        ({"b:m": "x"}, ("b:m",), "valid dictionary"),
        ({"b:m": {"mail": 3}}, ("b:m", "mail"), "must be a text, or a mapping with content and"),
        ({"b:m": {"mail": {"kind": "str"}}}, ("b:m", "mail", "content"), "Field required"),
        ({"b:m": {"mail": {"content": 3}}}, ("b:m", "mail", "content"), "valid string"),
        ({"b:m": {"mail": {"content": "x", "k": 1}}}, ("b:m", "mail", "k"), "not permitted"),
        (
            {"b:m": {"mail": {"content": "eA==", "kind": "binary", "media_type": "image/png"}}},
            ("b:m", "mail"),
            "binary content cannot be planted; injection vectors take text",
        ),
        (
            {"b:m": {"mail": {"content": "x", "kind": "image"}}},
            ("b:m", "mail"),
            "unknown kind of content 'image'; known: str, text",
        ),
    ],
)
def test_what_is_wrong_is_reported_at_its_key(
    attacks: Any, place: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        by_dict(attacks)
    (error,) = caught.value.errors()
    assert error["loc"] == ("attacks", *place)
    assert message in error["msg"]


def test_configs_survive_a_round_trip_through_json() -> None:
    model = dictionary.component.config
    config = model.model_validate({"attacks": ATTACKS})
    assert model.model_validate(config.model_dump(mode="json")) == config


def test_a_file_may_be_the_bare_mapping_or_have_a_head(tmp_path: Path) -> None:
    bare = by_file(tmp_path, ATTACKS)
    assert bare.contents(target()) == {"mail": HOSTILE, "page": "two"}
    assert bare.recording(MODEL) is None
    assert bare.sources == (tmp_path / "attacks.json",)
    head = {"metadata": {"name": "pair", "config": {"turns": 3}}, "attacks": ATTACKS}
    full = by_file(tmp_path, head)
    assert full.contents(target()) == bare.contents(target())
    assert full.recording(MODEL) == "pair"
    assert by_file(tmp_path, "\ufeff" + json.dumps(ATTACKS)).contents(target())


def test_the_file_attack_names_itself_in_its_warning(tmp_path: Path) -> None:
    with pytest.warns(AttackMissingWarning, match="^attack file: no contents for the couple 'x:m'"):
        assert by_file(tmp_path, ATTACKS).contents(target(benign="x")) == {}


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    config = file.component.config.model_validate({"file_path": "sub/none.json"})
    with pytest.raises(AttackFileError) as caught:
        file.component.build(config, tmp_path)
    assert str(caught.value) == (
        "attack file sub/none.json: cannot be read: No such file or directory"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "attack file attacks.json: not valid JSON: Expecting property name"),
        (
            '{"b:m": {"v": "x"}, "b:m": {}}',
            "the key 'b:m' occurs twice in one object",
        ),
        ("[" * 100_000, "not valid JSON: nested too deeply"),
        ([], "attack file attacks.json: Input should be a valid dictionary"),
        ({}, "attack file attacks.json: attacks: Dictionary should have at least 1 item"),
        ({"b:m": {"v": 3}}, "attack file attacks.json: attacks.b:m.v: must be a text, or a"),
        (
            {"attacks": {"b:m": {"v": {"content": "x", "kind": "binary"}}}},
            "attacks.b:m.v: binary content cannot be planted",
        ),
        ({"attacks": ATTACKS, "attack": {}}, "attack: Extra inputs are not permitted"),
    ],
)
def test_files_that_cannot_be_used_say_where(tmp_path: Path, content: Any, message: str) -> None:
    found = file_error(tmp_path, content)
    assert found.startswith("attack file attacks.json: ")
    assert message in found


def test_a_file_of_other_bytes(tmp_path: Path) -> None:
    (tmp_path / "attacks.json").write_bytes(b'{"b:m": "\xff"}')
    config = file.component.config.model_validate({"file_path": "attacks.json"})
    with pytest.raises(AttackFileError, match="is not UTF-8: invalid start byte"):
        file.component.build(config, tmp_path)


def test_the_attacks_are_found_by_their_names() -> None:
    from pytest_siren.attacks import template_string

    registry = Registry()
    assert registry.find(Kind.ATTACK, "dict") is dictionary.component
    assert registry.find(Kind.ATTACK, "file") is file.component
    assert registry.find(Kind.ATTACK, "template_string") is template_string.component


def test_unknown_vectors_are_an_error_of_the_run(tmp_path: Path) -> None:
    from pydantic_ai.usage import UsageLimits

    from pytest_siren.agents.plain import PlainAgent, PlainAgentConfig
    from pytest_siren.datasets.inline import component
    from pytest_siren.evaluation.models import RunContext
    from pytest_siren.evaluation.run import RunPlan, execute
    from pytest_siren.evaluation.scores import Status

    given = {
        "tasks": [{"id": "b", "prompt": "Read {mail}.", "vectors": {"mail": ""}}],
        "malicious_tasks": [
            {"id": "m", "goal": "g", "evaluators": [{"type": "equals", "value": "x"}]}
        ],
    }
    dataset = component.build(component.config.model_validate(given), tmp_path)
    (couple,) = dataset.couples
    context = RunContext("inline", None, couple.id, couple.benign, couple.malicious, "dict", 0)
    attack = by_dict({"b:m": {"mial": "x"}})
    agent = PlainAgent(PlainAgentConfig())
    plan = RunPlan(context, dataset, agent, attack, MODEL, UsageLimits())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outcome = asyncio.run(execute(plan))
    assert outcome.status is Status.ERROR
    assert outcome.error is not None
    assert outcome.error.message == "no such injection vector: mial"
