"""Which keys a schema knows at a place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Optional

import pytest
from pydantic import BaseModel, Field, RootModel
from typing_extensions import TypeAliasType

from pytest_siren.spec.schema import accepts, keys_at
from pytest_siren.yamlpos.problems import KeyPath


class Left(BaseModel):
    kind: Literal["left"] = "left"
    a: int


class Right(BaseModel):
    kind: Literal["right"]
    b: int
    deeper: dict[str, Left]


class Wrapped(RootModel[list[Left]]):
    pass


class Open(BaseModel):
    name: str


Alias = TypeAliasType("Alias", list[Right])


class Top(BaseModel):
    one: Optional[Left] = None  # noqa: UP045 - both spellings of a union must work
    either: Annotated[Left | Right, Field(discriminator="kind")]
    many: Sequence[Left | str]
    named: Mapping[str, Right]
    anything: Any
    loose: dict[str, Any] | None = None
    maybe: Open | dict[str, int] | None = None
    wrapped: Wrapped
    aliased: Alias
    bare: dict  # type: ignore[type-arg]
    written: int = Field(alias="called")


@pytest.mark.parametrize(
    ("path", "data", "keys"),
    [
        (("one",), {}, {"kind", "a"}),
        (("either",), {}, {"kind", "a", "b", "deeper"}),
        (("either",), {"kind": "right"}, {"kind", "b", "deeper"}),
        (("either",), {"kind": "neither"}, {"kind", "a", "b", "deeper"}),
        (("many", 3), {}, {"kind", "a"}),
        (("named", "x"), {}, {"kind", "b", "deeper"}),
        (("named", "x", "deeper", "y"), {}, {"kind", "a"}),
        (("wrapped", 0), {}, {"kind", "a"}),
        (("aliased", 0), {}, {"kind", "b", "deeper"}),
        (("loose",), {}, None),
        (("anything",), {}, None),
        (("anything", "x", 1, "y"), {}, None),
        (("maybe",), {}, None),
        (("named",), {}, None),
        (("nowhere",), {}, None),
    ],
)
def test_the_keys_of_a_place(path: KeyPath, data: Any, keys: set[str] | None) -> None:
    assert keys_at(Top, path, data) == keys


def test_a_field_with_an_alias_is_known_by_its_alias() -> None:
    keys = keys_at(Top, (), {})
    assert keys is not None
    assert "called" in keys
    assert "written" not in keys


@pytest.mark.parametrize(
    ("path", "accepted"),
    [
        (("one", "a"), True),
        (("one", "b"), False),
        (("either", "b"), True),
        (("many", 0, "a"), True),
        (("many", "x"), False),
        (("named", "x", "b"), True),
        (("named", "x", "c"), False),
        (("loose", "any", "thing"), True),
        (("bare", "any", "thing"), True),
        (("called",), True),
        (("called", "x"), False),
    ],
)
def test_paths_that_a_schema_accepts(path: KeyPath, accepted: bool) -> None:
    assert accepts(Top, path) is accepted
