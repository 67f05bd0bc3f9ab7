"""Environments out of a suite's data, with contents planted."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from pydantic import BaseModel

from pytest_siren.environments.agentdojo_data import Path, SuiteData
from pytest_siren.environments.model_copies import Mould

_KEPT = 2048
"""Items with contents that are kept, of some 5 kB each.

A fixed attack makes one per goal and item that tasks read: fewer than 300 in any suite.
"""

Env = TypeVar("Env", bound=BaseModel)
_Planted: TypeAlias = tuple[tuple[str, str | None], ...]


@dataclass(frozen=True)
class _Item:
    """A part of the environment in which vectors stand, such as an e-mail."""

    path: Path
    original: BaseModel
    """As it is in the pristine environment."""
    vectors: Sequence[str]


class EnvironmentLoader(Generic[Env]):
    """Makes environments of one suite.

    To validate all data takes 20 ms, for there are hundreds of e-mail addresses in it, but contents
    are planted in a few items. So an environment is a copy of the pristine one in which those items
    are replaced, wherever they stand, by what their own data come to. The first time that an item
    is replaced, the environment is compared with one that was validated as a whole; should they
    differ, this suite is always validated as a whole.
    """

    def __init__(self, kind: type[Env], data: SuiteData, defaults: Mapping[str, str]) -> None:
        self._kind, self._data, self._defaults = kind, data, defaults
        self._pristine = self._validated({})
        self._items: list[_Item] | None = _items(data, self._pristine)
        self._compared: set[Path] = set()
        self._mould = Mould(self._pristine, [item.original for item in self._items or ()])
        self._made: OrderedDict[tuple[Path, _Planted], Mould[BaseModel]] = OrderedDict()

    def load(self, contents: Mapping[str, str]) -> Env:
        """Return an environment of its own, with ``contents`` planted in it."""
        if self._items is None:
            return self._validated(contents)
        items = [item for item in self._items if not contents.keys().isdisjoint(item.vectors)]
        environment = self._mould.cast(
            {id(item.original): self._make(item, contents).cast() for item in items}
        )
        paths = {item.path for item in items}
        if not paths <= self._compared:
            self._compared |= paths
            whole = self._validated(contents)
            if whole != environment:
                self._items = None
                return whole
        return environment

    def _validated(self, contents: Mapping[str, str]) -> Env:
        filled = self._data.filled((), {**self._defaults, **contents}, exact=contents.keys())
        return self._kind.model_validate(filled)

    def _make(self, item: _Item, contents: Mapping[str, str]) -> Mould[BaseModel]:
        key = (item.path, tuple((vector, contents.get(vector)) for vector in item.vectors))
        if key in self._made:
            self._made.move_to_end(key)
        else:
            values = {**self._defaults, **contents}
            data = self._data.filled(item.path, values, exact=contents.keys())
            self._made[key] = Mould(type(item.original).model_validate(data))
            if len(self._made) > _KEPT:
                self._made.popitem(last=False)
        return self._made[key]


def _items(data: SuiteData, pristine: BaseModel) -> list[_Item] | None:
    """Return the innermost models in which vectors stand; ``None`` if one stands in none."""
    found: dict[Path, tuple[BaseModel, set[str]]] = {}
    for place in data.places:
        item = _innermost(pristine, place.path)
        if item is None:
            return None
        found.setdefault(item[0], (item[1], set()))[1].update(place.vectors)
    return [_Item(path, model, sorted(vectors)) for path, (model, vectors) in found.items()]


def _innermost(pristine: BaseModel, path: Path) -> tuple[Path, BaseModel] | None:
    found: tuple[Path, BaseModel] | None = None
    value: Any = pristine
    for depth, key in enumerate(path):
        if isinstance(value, BaseModel):
            if key not in type(value).model_fields:
                break
            value = getattr(value, key)
        elif isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and isinstance(key, int) and key < len(value):
            value = value[key]
        else:
            break
        if isinstance(value, BaseModel):
            found = path[: depth + 1], value
    return found
