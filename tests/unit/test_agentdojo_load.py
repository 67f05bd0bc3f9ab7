"""Environments made of replaced items are those that are validated as a whole."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("agentdojo", reason="needs the extra agentdojo")

from pydantic import BaseModel, EmailStr, model_validator

from pytest_siren.environments.agentdojo.data import EnvironmentLoader, SuiteData

DATA = """
box:
  mails:
  - id: "1"
    sender: "ada@example.com"
    body: "Hello. {first}"
  - id: "2"
    sender: "bob@example.com"
    body: "Bye. {second}"
notes: {{todo: "{third}"}}
"""
DEFAULTS = {"first": "one", "second": "two", "third": "three"}
validated: list[str] = []


class Mail(BaseModel):
    id: str
    sender: EmailStr
    body: str
    length: int = 0

    @model_validator(mode="after")
    def _measure(self) -> Mail:
        validated.append(self.id)
        self.length = len(self.body)
        return self


class Box(BaseModel):
    mails: list[Mail]
    by_id: dict[str, Mail] = {}

    @model_validator(mode="after")
    def _index(self) -> Box:
        self.by_id = {mail.id: mail for mail in self.mails}
        return self


class Notes(BaseModel):
    todo: str


class World(BaseModel):
    box: Box
    notes: Notes


class Loud(Box):
    longest: int = 0

    @model_validator(mode="after")
    def _read(self) -> Loud:
        self.longest = max(mail.length for mail in self.mails)
        return self


class LoudWorld(World):
    box: Loud


class Flat(BaseModel):
    notes: dict[str, str]
    box: dict[str, list[dict[str, str]]]


def loader(kind: type[Any] = World) -> EnvironmentLoader[Any]:
    validated.clear()
    return EnvironmentLoader(kind, SuiteData(DATA, DEFAULTS), DEFAULTS)


def whole(kind: type[Any], contents: dict[str, str]) -> Any:
    filled = SuiteData(DATA, DEFAULTS).filled((), {**DEFAULTS, **contents}, exact=contents)
    return kind.model_validate(filled)


@pytest.mark.parametrize("kind", [World, LoudWorld, Flat])
def test_an_environment_is_that_of_the_whole_data(kind: type[Any]) -> None:
    made = loader(kind)
    for contents in (
        {"first": "a"},
        {},
        {"first": "b" * 50, "third": "c"},
        {"second": "d" * 90},
        {"first": "e" * 70, "second": "f"},
        {"third": 'say "no"'},
        {},
    ):
        assert made.load(contents) == whole(kind, contents)


def test_a_replaced_item_is_replaced_wherever_it_stands() -> None:
    environment = loader().load({"second": "planted"})
    assert environment.box.mails[1] is environment.box.by_id["2"]
    assert environment.box.by_id["2"].body == "Bye. planted"
    assert environment.box.by_id["2"].length == len("Bye. planted")


def test_only_the_planted_items_are_validated_again() -> None:
    made = loader()
    made.load({"first": "a"})  # compared with the whole
    validated.clear()
    made.load({"first": "b"})
    assert validated == ["1"]
    made.load({"first": "b"})
    made.load({})
    assert validated == ["1"]


def test_environments_share_nothing_that_changes() -> None:
    made = loader()
    first = made.load({"first": "a"})
    first.box.mails[0].body = first.notes.todo = "changed"
    first.box.by_id.clear()
    assert made.load({"first": "a"}) == whole(World, {"first": "a"})
    assert made.load({}) == whole(World, {})


def test_a_suite_whose_containers_read_their_items_is_validated_as_a_whole() -> None:
    made = loader(LoudWorld)
    assert made.load({"first": "a" * 99}).box.longest == len("Hello. " + "a" * 99)
    validated.clear()
    assert made.load({"first": "b" * 199}).box.longest == len("Hello. " + "b" * 199)
    assert validated == ["1", "2"]
