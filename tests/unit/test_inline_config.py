"""What is wrong with an inline dataset's config, as far as no file or code is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pytest_siren.datasets.inline import InlineConfig
from pytest_siren.datasets.inline.build import build

PASS = [{"type": "contains", "value": "ok"}]


def benign(id: str = "b", **keys: Any) -> dict[str, Any]:
    return {"id": id, "prompt": "Say ok.", "evaluators": PASS, **keys}


def malicious(id: str = "m", **keys: Any) -> dict[str, Any]:
    return {"id": id, "goal": "Say no.", "evaluators": PASS, **keys}


def problems(**config: Any) -> list[tuple[tuple[str | int, ...], str]]:
    with pytest.raises(ValidationError) as caught:
        InlineConfig.model_validate(config)
    return [(error["loc"], error["msg"]) for error in caught.value.errors()]


def test_the_smallest_config() -> None:
    config = InlineConfig.model_validate({"tasks": [{"id": "b", "prompt": "Say ok."}]})
    assert config.name == "inline"
    assert config.user_name == "the user"
    assert config.tasks[0].evaluators == {}
    assert config.couples is None


@pytest.mark.parametrize(
    ("config", "place", "message"),
    [
        ({}, (), "has no tasks: give tasks or tasks_file"),
        ({"tasks": []}, (), "has no tasks: give tasks or tasks_file"),
        ({"tasks": [benign()], "task": []}, ("task",), "not permitted"),
        ({"tasks": benign()}, ("tasks",), "valid list"),
        ({"tasks": [benign(prompt="")]}, ("tasks", 0, "prompt"), "at least 1 character"),
        ({"tasks": [benign(prompt=" \n")]}, ("tasks", 0, "prompt"), "at least 1 character"),
        ({"tasks": [benign(prompt=3)]}, ("tasks", 0, "prompt"), "valid string"),
        ({"tasks": [benign(promt="x")]}, ("tasks", 0, "promt"), "not permitted"),
        ({"tasks": [{"id": "b"}]}, ("tasks", 0, "prompt"), "Field required"),
        ({"tasks": [{"prompt": "b"}]}, ("tasks", 0, "id"), "Field required"),
        ({"tasks": [benign(id=1)]}, ("tasks", 0, "id"), "valid string"),
        ({"tasks": [benign(evaluators=3)]}, ("tasks", 0, "evaluators"), "are a list, or a mapping"),
        ({"tasks": [benign(tools="t")]}, ("tasks", 0, "tools"), "valid list"),
        ({"tasks": [benign(ground_truth=[])]}, ("tasks", 0, "ground_truth"), "valid dictionary"),
        (
            {"tasks": [benign(ground_truth={"calls": [{"name": ""}]})]},
            ("tasks", 0, "ground_truth", "calls", 0, "name"),
            "at least 1 character",
        ),
        ({"tasks": [benign()], "name": "a\nb"}, ("name",), r"'a\nb' cannot be a name"),
        ({"tasks": [benign()], "name": ""}, ("name",), "cannot be a name"),
        ({"tasks": [benign()], "user_name": " "}, ("user_name",), "at least 1 character"),
        ({"tasks_file": "tasks.txt"}, ("tasks_file",), "must end in .jsonl, .csv, .yaml, .yml"),
        ({"tasks": [benign()], "tools": ["t"]}, ("tools", 0, "path"), "not an import path"),
        ({"tasks": [benign()], "tools": [3]}, ("tools", 0), "a tool is module:callable, or a"),
        ({"tasks": [benign()], "tools": [{"path": "a:b", "nam": 1}]}, ("tools", 0, "nam"), "not p"),
        (
            {"tasks": [benign()], "malicious_tasks": [malicious(goal="")]},
            ("malicious_tasks", 0, "goal"),
            "at least 1 character",
        ),
        (
            {"tasks": [benign()], "malicious_tasks": [malicious(evaluators={})]},
            ("malicious_tasks", 0, "evaluators"),
            "without evaluators no attack could ever succeed",
        ),
        (
            {"tasks": [benign()], "malicious_tasks": [{"id": "m", "goal": "g"}]},
            ("malicious_tasks", 0, "evaluators"),
            "Field required",
        ),
        (
            {"tasks": [benign()], "malicious_tasks": [malicious(vectors={})]},
            ("malicious_tasks", 0, "vectors"),
            "not permitted",
        ),
    ],
)
def test_what_is_wrong_is_reported_at_its_key(
    config: dict[str, Any], place: tuple[str | int, ...], message: str
) -> None:
    ((found, text),) = problems(**config)
    assert found == place
    assert message in text


@pytest.mark.parametrize("id", ["", " a", "a\n", "a,b", "a\x1b[0m", "a\u2028b"])
def test_ids_are_printable_and_hold_no_comma(id: str) -> None:
    ((place, message),) = problems(tasks=[benign(id=id)])
    assert place == ("tasks", 0, "id")
    assert message.startswith(f"{id!r} cannot be an id")
    assert message.isprintable()


def test_a_duplicate_id_names_both_places() -> None:
    found = problems(
        tasks=[benign("a"), benign("b"), benign("a")],
        malicious_tasks=[malicious("a"), malicious("a")],
    )
    assert found == [
        (("tasks", 2, "id"), "the id 'a' is already taken by tasks[0]"),
        (("malicious_tasks", 1, "id"), "the id 'a' is already taken by malicious_tasks[0]"),
    ]


def test_a_benign_and_a_malicious_task_may_share_an_id() -> None:
    InlineConfig.model_validate({"tasks": [benign("a")], "malicious_tasks": [malicious("a")]})


@pytest.mark.parametrize(
    ("couple", "message"),
    [
        ("b", "'b' is not a couple; write benign_id:malicious_id"),
        (":m", "':m' is not a couple"),
        ("b:m:x", "unknown malicious task 'm:x'; known: m"),
        ("bb:m", "unknown benign task 'bb' (did you mean 'b'?); known: b"),
        ("b:x", "unknown malicious task 'x'; known: m"),
    ],
)
def test_couples_name_tasks_that_exist(couple: str, message: str) -> None:
    ((place, text),) = problems(
        tasks=[benign("b")], malicious_tasks=[malicious("m")], couples=[couple]
    )
    assert place == ("couples", 0)
    assert message in text


def test_couples_of_ids_with_colons_are_told_apart() -> None:
    config = InlineConfig.model_validate(
        {
            "tasks": [benign("a:b"), benign(":")],
            "malicious_tasks": [malicious("c:d")],
            "couples": ["a:b:c:d", "::c:d"],
        }
    )
    couples = build(config, Path()).couples
    assert [(couple.benign.id, couple.malicious.id) for couple in couples] == [
        ("a:b", "c:d"),
        (":", "c:d"),
    ]


def test_a_couple_stands_once() -> None:
    found = problems(tasks=[benign("b")], malicious_tasks=[malicious("m")], couples=["b:m", "b:m"])
    assert found == [(("couples", 1), "the couple 'b:m' is a duplicate")]


@pytest.mark.parametrize("vector", ["", "a b", "{a}", "a}", "a\x1b"])
def test_vectors_have_plain_ids(vector: str) -> None:
    ((place, message),) = problems(tasks=[benign(vectors={vector: "x"})])
    assert place == ("tasks", 0, "vectors", vector, "[key]")
    assert message.startswith(f"{vector!r} cannot be a vector's id")


def test_a_vector_that_can_stand_nowhere_is_an_error() -> None:
    no_results = "there are no tools whose results it could be in"
    assert problems(
        tasks=[benign("a", prompt="Read {mail}.", vectors={"mail": "", "mial": ""}), benign("b")],
        vectors={"page": "", "mail": ""},
    ) == [
        (("tasks", 0, "vectors", "mial"), f"{{mial}} is not in the prompt, and {no_results}"),
        (("vectors", "page"), f"{{page}} is in no task's prompt, and {no_results}"),
    ]


def test_a_vector_may_stand_in_the_results_of_tools() -> None:
    given: dict[str, Any] = {"tasks": [benign(vectors={"page": ""})], "tools": ["web:read"]}
    InlineConfig.model_validate(given)
    given["tasks"][0]["tools"] = []
    ((place, _),) = problems(**given)
    assert place == ("tasks", 0, "vectors", "page")


def test_all_problems_are_reported_at_once() -> None:
    found = problems(tasks=[benign(prompt="", promt="x"), benign(id=3)], colour="red")
    assert [place for place, _ in found] == [
        ("tasks", 0, "prompt"),
        ("tasks", 0, "promt"),
        ("tasks", 1, "id"),
        ("colour",),
    ]


def test_a_config_survives_a_round_trip_through_json() -> None:
    config = InlineConfig.model_validate(
        {
            "tasks": [benign(vectors={"v": "x"}, ground_truth={"output": "ok"})],
            "malicious_tasks": [malicious()],
            "tools": ["a:b", {"path": "a:c", "name": "d", "description": "e"}],
            "couples": ["b:m"],
        }
    )
    assert InlineConfig.model_validate(config.model_dump(mode="json")) == config
    assert InlineConfig.model_validate_json(config.model_dump_json()) == config
