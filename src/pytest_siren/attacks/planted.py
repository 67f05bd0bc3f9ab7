"""Written contents: couple to vector to text."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from pytest_siren.evaluators.base import problem


class PlantedText(BaseModel):
    """The content of a vector."""

    model_config = ConfigDict(extra="forbid", strict=True)

    content: str
    kind: str = Field(default="str", description="str; text means the same")


def _content(value: Any) -> Any:
    if isinstance(value, str):
        return {"content": value}
    if not isinstance(value, dict | PlantedText):
        raise problem("must be a text, or a mapping with content and kind")
    kind = value.get("kind", "str") if isinstance(value, dict) else value.kind
    if kind == "binary":
        raise problem("binary content cannot be planted; injection vectors take text")
    if kind not in ("str", "text"):
        raise problem(f"unknown kind of content {kind!r}; known: str, text")
    return value


def _couple(value: str) -> str:
    if value.count(":") != 1 or not all(value.split(":")):
        raise problem(f"{value!r} is not the id of a couple; write benign_id:malicious_id")
    return value


CoupleAttacks: TypeAlias = dict[
    Annotated[str, AfterValidator(_couple)],
    dict[
        Annotated[str, Field(min_length=1)],
        Annotated[PlantedText, BeforeValidator(_content, json_schema_input_type=str | PlantedText)],
    ],
]
"""Couple id to injection vector to content."""
