"""``json_schema``: the answer is JSON that a JSON Schema accepts."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Literal

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]
from pydantic import Field, field_validator
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from pytest_siren.evaluation.tasks import Evaluator, Evidence
from pytest_siren.evaluators import strict_json
from pytest_siren.evaluators.base import EvaluatorConfig
from pytest_siren.evaluators.bounds import in_time
from pytest_siren.evaluators.problems import problem
from pytest_siren.evaluators.schema_bounds import in_bounds


class JsonSchema(EvaluatorConfig):
    """1.0 when the output is JSON valid under ``schema`` (2020-12 unless ``$schema`` says else).

    The JSON may stand alone or in a fenced block: the first one marked ``json`` or not marked.
    ``format`` is not asserted. References lead into the schema itself or to the meta-schemas;
    nothing is fetched.
    A validation that takes longer than 5 s is the run's error.
    """

    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")

    @field_validator("schema_")
    @classmethod
    def _is_schema(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            validator_for(value, default=Draft202012Validator).check_schema(value)
            _check_references(value)
        except SchemaError as error:
            place = f" at {error.json_path}" if error.absolute_path else ""
            raise problem(f"not a JSON Schema: {error.message}{place}") from None
        except Unresolvable as error:
            raise problem(f"the reference {error.ref!r} leads nowhere") from None
        except RecursionError:
            raise problem("nested too deeply") from None
        return value

    def build(self, base: Path) -> Evaluator:
        kind: type[Validator] = validator_for(self.schema_, default=Draft202012Validator)
        # A registry of one's own keeps jsonschema from fetching what a reference names.
        validator = in_bounds(kind)(self.schema_, registry=Registry())

        def judge(output: str) -> float:
            try:
                return float(validator.is_valid(strict_json.loads(answer(output))))
            # A number beyond all floats is a multiple of nothing.
            except (ValueError, OverflowError, RecursionError):
                return 0.0

        def json_schema(evidence: Evidence) -> float | Awaitable[float]:
            return in_time("json_schema", lambda: judge(evidence.output))

        return json_schema


def answer(output: str) -> str:
    """Return the fenced block of ``output`` that is unmarked or marked ``json``, else all of it."""
    block: list[str] | None = None
    skipping = False
    for line in output.split("\n"):
        mark = line.strip()
        if block is not None and mark == "```":
            return "\n".join(block)
        if block is not None:
            block.append(line)
        elif skipping:
            skipping = mark != "```"
        elif mark.lower() in ("```", "```json"):
            block = []
        elif mark.startswith("```"):
            skipping = True
    return output


def _check_references(schema: dict[str, Any]) -> None:
    resource = Resource.from_contents(schema, default_specification=DRAFT202012)
    waiting = [(resource, REGISTRY.resolver_with_root(resource))]
    while waiting:
        part, resolver = waiting.pop()
        if isinstance(part.contents, dict) and isinstance(part.contents.get("$ref"), str):
            resolver.lookup(part.contents["$ref"])
        waiting += [(sub, resolver.in_subresource(sub)) for sub in part.subresources()]
