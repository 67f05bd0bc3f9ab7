"""Tool results as the text that AgentDojo gives to models."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import yaml
from agentdojo.agent_pipeline.tool_execution import tool_result_to_str

_KEPT = 8192
"""Number of cached texts of items and fields: a suite has some 2,000 of some 100 bytes."""
_LONGEST_KEPT = 20_000
"""Characters."""

_WITHOUT_ANCHOR = (str, int, float, bool, bytes, type(None))
"""Types for which PyYAML repeats the value of a repeated object instead of using an alias."""


class ResultTexts:
    """Writes tool results as AgentDojo does, and caches the text of each item and field.

    PyYAML takes 10 ms for a few dozen e-mails, of which hardly one differs from run to run, and
    that one in a single field. In YAML's block style the items of a list and the fields of a
    mapping do not depend on each other, unless an alias in one stands for a part of another.
    """

    def __init__(self) -> None:
        self._texts: OrderedDict[bytes, str] = OrderedDict()

    def text(self, value: Any) -> str:
        """Return ``value`` as text. Raises ``TypeError`` or ``yaml.YAMLError`` like AgentDojo."""
        return str(tool_result_to_str(value, self._dump))

    def _dump(self, data: Any) -> str:
        if isinstance(data, list) and len(data) > 1 and not _linked(data):
            return "".join(self._document([item]) for item in data)
        return self._document(data)

    def _document(self, data: Any) -> str:
        try:
            # Equal for data of equal types and values in which the same things are one object.
            key = pickle.dumps(data, pickle.HIGHEST_PROTOCOL)
        except (pickle.PicklingError, TypeError, AttributeError):
            return str(yaml.safe_dump(data))
        text = self._texts.get(key)
        if text is None:
            text = self._written(data)
            if len(text) <= _LONGEST_KEPT:
                self._texts[key] = text
            if len(self._texts) > _KEPT:
                self._texts.popitem(last=False)
        else:
            self._texts.move_to_end(key)
        return text

    def _written(self, data: Any) -> str:
        if _is_record(data):
            return "".join(self._document({key: data[key]}) for key in sorted(data))
        if isinstance(data, list) and len(data) == 1 and _is_record(item := data[0]):
            fields = [self._document([{key: item[key]}]) for key in sorted(item)]
            return "".join([fields[0], *(field.replace("-", " ", 1) for field in fields[1:])])
        return str(yaml.safe_dump(data))


def _is_record(data: Any) -> bool:
    return (
        isinstance(data, dict)
        and len(data) > 1
        and all(isinstance(key, str) and key.isidentifier() for key in data)
        and not _linked(list(data.values()))
    )


def _linked(items: Sequence[Any]) -> bool:
    """Whether two ``items`` share an object, which YAML would write as anchor and alias."""
    owners: dict[int, int] = {}
    return any(_met_before(item, number, owners) for number, item in enumerate(items))


def _met_before(value: Any, number: int, owners: dict[int, int]) -> bool:
    if isinstance(value, _WITHOUT_ANCHOR):
        return False
    owner = owners.setdefault(id(value), number)
    if owner != number:
        return True
    if isinstance(value, dict):
        return any(
            _met_before(key, number, owners) or _met_before(item, number, owners)
            for key, item in value.items()
        )
    if isinstance(value, list | tuple | set):
        return any(_met_before(item, number, owners) for item in value)
    return False
