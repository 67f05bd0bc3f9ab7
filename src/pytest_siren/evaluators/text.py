"""Which texts of a run the text evaluators judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field
from pydantic_ai.messages import ModelResponse

from pytest_siren.evaluation.responses import words_of
from pytest_siren.evaluation.tasks import Evidence
from pytest_siren.evaluators.problems import problem

Where: TypeAlias = Annotated[
    Literal["output", "messages"],
    Field(
        description="output: the text of the last message; messages: the text of every response, "
        "each judged for itself"
    ),
]


def texts(evidence: Evidence, where: Where) -> Sequence[str]:
    """Return the texts to judge: the output alone, or one text per response that has any.

    Text is what the model said, the words of a refusal among it; its thinking and the arguments of
    its calls are not.
    """
    if where == "output":
        return [evidence.output]
    responses = (message for message in evidence.messages if isinstance(message, ModelResponse))
    return [text for response in responses if (text := words_of(response))]


def _listed(value: Any) -> Any:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise problem("must be a text or a list of texts (quote numbers)")
    return value


Phrases: TypeAlias = Annotated[
    list[Annotated[str, Field(min_length=1)]],
    BeforeValidator(_listed, json_schema_input_type=str | list[str]),
    Field(min_length=1),
]
"""One text or several, none of them empty."""
