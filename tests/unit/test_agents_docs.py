"""The reference page of agents: its tables are those of the schemas."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from pytest_siren.agents import command, function, http, pydantic_ai, python
from pytest_siren.agents.black_box import BlackBoxConfig, ModelledConfig
from pytest_siren.evaluation.components import Kind, Registry

_PAGE = (Path(__file__).parents[2] / "docs/reference/agents.md").read_text(encoding="utf-8")
_SECTIONS: dict[str, type[BaseModel]] = {
    "Keys of all agents but `plain`": BlackBoxConfig,
    "Keys of those that can have a model": ModelledConfig,
    "`python`": python.PythonAgentConfig,
    "`pydantic_ai`": pydantic_ai.PydanticAgentConfig,
    "`command`": command.CommandAgentConfig,
    "`function`": function.FunctionAgentConfig,
    "`http`": http.HttpAgentConfig,
}


@pytest.mark.parametrize("section", _SECTIONS)
def test_the_page_has_every_key_with_its_meaning(section: str) -> None:
    text = _PAGE.partition(f"## {section}\n")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", text, re.MULTILINE))
    schema = _SECTIONS[section]
    above = (base for base in schema.__mro__[1:] if issubclass(base, BaseModel))
    inherited = {name for base in above for name in base.model_fields}
    fields = {name: one for name, one in schema.model_fields.items() if name not in inherited}
    assert rows == {name: " ".join((one.description or "").split()) for name, one in fields.items()}


def test_the_page_has_every_agent() -> None:
    for name in Registry().names(Kind.AGENT):
        assert f"`{name}`" in _PAGE
