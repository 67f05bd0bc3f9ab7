"""AgentDojo's environments as data, loaded once and copied for each run."""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import EnumType
from functools import cached_property
from typing import Any, Generic, TypeAlias, TypeVar

import yaml
from pydantic import BaseModel

Path: TypeAlias = tuple[Any, ...]
"""Keys and positions from the root of the data."""

# libyaml reads a suite's data some thirty times faster than the pure Python loader.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_UNQUOTABLE = re.compile(
    r'"|(?:^|\n)(?:---|\.\.\.)|[^\t\n\r\x20-\x7E\x85\xA0-\uD7FF\uE000-\uFFFD'
    "\U00010000-\U0010ffff]"
)
"""Characters that a double-quoted YAML scalar cannot contain unescaped."""


@dataclass(frozen=True)
class Place:
    """A text of the data that contains vectors."""

    path: Path
    source: str
    """The source of the text in YAML, including quotes, with tokens for the vectors."""
    vectors: frozenset[str]


class SuiteData:
    """A suite's data, read once.

    AgentDojo fills contents into the text of the data with ``str.format`` and then reads it as
    YAML, so line breaks in a content fold and escapes with a backslash are resolved. So they are
    here, but only the texts with vectors in them are read again. A content that YAML would refuse
    (a double quote, a control character, an unknown escape) is filled in exactly as it is.
    """

    def __init__(self, text: str, vectors: Collection[str]) -> None:
        self._tokens = {vector: f"sirenvector{index}end" for index, vector in enumerate(vectors)}
        self._text = text.format(**self._tokens)

    def filled(self, part: Path, contents: Mapping[str, str], exact: Collection[str]) -> Any:
        """Return the ``part`` of the data with a content for every vector in it.

        It is valid until the next call; the empty path is the whole. ``exact`` names the vectors
        whose content is filled in as it is where YAML would change it.
        """
        for place in self.places:
            if place.path[: len(part)] == part:
                container = self._at(place.path[:-1])
                container[place.path[-1]] = self._fill(place, contents, exact)
        return self._at(part)

    def _at(self, path: Path) -> Any:
        value = self._data
        for key in path:
            value = value[key]
        return value

    @cached_property
    def _data(self) -> Any:
        return yaml.load(self._text, Loader=_Loader)

    @cached_property
    def places(self) -> list[Place]:
        """The texts that contain vectors."""
        root = yaml.compose(self._text, Loader=_Loader)
        return [] if root is None else list(self._find(root, ()))

    def _find(self, node: yaml.Node, path: Path) -> Iterator[Place]:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                yield from self._find(value, (*path, key.value))
        elif isinstance(node, yaml.SequenceNode):
            for position, item in enumerate(node.value):
                yield from self._find(item, (*path, position))
        else:
            source = self._text[node.start_mark.index : node.end_mark.index]
            if found := [vector for vector, token in self._tokens.items() if token in source]:
                yield Place(path, source, frozenset(found))

    def _fill(self, place: Place, contents: Mapping[str, str], exact: Collection[str]) -> str:
        source, later = place.source, []
        for vector in place.vectors:
            if vector in exact and not _readable(contents[vector]):
                later.append(vector)
            else:
                source = source.replace(self._tokens[vector], contents[vector])
        text = str(yaml.load(source, Loader=_Loader))
        for vector in later:
            text = text.replace(self._tokens[vector], contents[vector])
        return text


def _readable(content: str) -> bool:
    """Whether ``content`` is valid within a double-quoted YAML text."""
    if _UNQUOTABLE.search(content):
        return False
    if "\\" not in content:
        return True
    try:
        yaml.load(f'"{content}"', Loader=_Loader)
    except yaml.YAMLError:
        return False
    return True


Model = TypeVar("Model", bound=BaseModel)
_Memo: TypeAlias = dict[int, Any]
_Maker: TypeAlias = Callable[[_Memo], Any]

_UNCHANGING = frozenset(
    {str, int, float, bool, type(None), bytes, complex, datetime, date, time, timedelta}
)
_set = object.__setattr__


class ModelCloner(Generic[Model]):
    """Makes deep copies of one model, which must not change any more.

    Copies share immutable parts. An object that the model holds in several places is one object
    in the same places of a copy.
    """

    def __init__(self, model: Model, replaceable: Collection[BaseModel] = ()) -> None:
        """``replaceable`` are parts of ``model`` that ``clone`` may replace."""
        self._model = model  # keeps its parts alive, so that their ids stay unique
        times = Counter(_walk(model, set()))
        times.update(id(part) for part in replaceable)
        self._several = frozenset(key for key, number in times.items() if number > 1)
        try:
            self._make = self._maker(model)
        except RecursionError:  # it contains itself
            self._make = lambda memo: deepcopy(model, memo)

    def clone(self, instead: Mapping[int, Any] | None = None) -> Model:
        """Return a copy. ``instead`` maps ids of replaceable parts to their replacements."""
        copy: Model = self._make(dict(instead or ()))
        return copy

    def _maker(self, value: Any) -> _Maker:
        kind = type(value)
        if kind is list:
            make = self._list(value)
        elif kind is dict:
            make = self._dict(value)
        elif _is_plain_model(value):
            make = self._part(value)
        else:
            # deepcopy records its copies in the memo by id, as is done here.
            return lambda memo: deepcopy(value, memo)
        return _once(id(value), make) if id(value) in self._several else make

    def _list(self, value: list[Any]) -> _Maker:
        changing = [(at, self._maker(item)) for at, item in enumerate(value) if _changes(item)]

        def make(memo: _Memo) -> list[Any]:
            copy = value.copy()
            for at, maker in changing:
                copy[at] = maker(memo)
            return copy

        return make

    def _dict(self, value: dict[Any, Any]) -> _Maker:
        changing = [(key, self._maker(item)) for key, item in value.items() if _changes(item)]

        def make(memo: _Memo) -> dict[Any, Any]:
            copy = value.copy()
            for key, maker in changing:
                copy[key] = maker(memo)
            return copy

        return make

    def _part(self, value: BaseModel) -> _Maker:
        kind, fields, given = type(value), self._dict(vars(value)), value.__pydantic_fields_set__
        extra, private = map(self._hidden, (value.__pydantic_extra__, value.__pydantic_private__))
        new = kind.__new__

        def make(memo: _Memo) -> BaseModel:
            copy = new(kind)
            # Not by assignment, which validates and may be forbidden.
            _set(copy, "__dict__", fields(memo))
            _set(copy, "__pydantic_fields_set__", given.copy())
            _set(copy, "__pydantic_extra__", extra and extra(memo))
            _set(copy, "__pydantic_private__", private and private(memo))
            return copy

        return make

    def _hidden(self, value: dict[str, Any] | None) -> _Maker | None:
        return None if value is None else self._dict(value)


def _once(key: int, make: _Maker) -> _Maker:
    def made(memo: _Memo) -> Any:
        if key not in memo:
            memo[key] = make(memo)
        return memo[key]

    return made


def _walk(value: Any, walked: set[int]) -> Iterator[int]:
    """Yield the id of each part of ``value`` as often as it occurs."""
    yield id(value)
    if id(value) in walked:
        return
    walked.add(id(value))
    if isinstance(value, list):
        parts: Iterable[Any] = value
    elif isinstance(value, dict):
        parts = value.values()
    elif _is_plain_model(value):
        hidden = (value.__pydantic_extra__ or {}, value.__pydantic_private__ or {})
        parts = (part for held in (vars(value), *hidden) for part in held.values())
    else:
        parts = ()
    for part in parts:
        if _changes(part):
            yield from _walk(part, walked)


def _changes(value: Any) -> bool:
    return type(value) not in _UNCHANGING and type(type(value)) is not EnumType


def _is_plain_model(value: Any) -> bool:
    return isinstance(value, BaseModel) and type(value).__deepcopy__ is BaseModel.__deepcopy__


_KEPT = 2048
"""Number of cached items with contents, of some 5 kB each.

A fixed attack makes one per goal and item that tasks read: fewer than 300 in any suite.
"""

Env = TypeVar("Env", bound=BaseModel)
_Planted: TypeAlias = tuple[tuple[str, str | None], ...]


@dataclass(frozen=True)
class _Item:
    """A part of the environment that contains vectors, such as an e-mail."""

    path: Path
    original: BaseModel
    """The part in the pristine environment."""
    vectors: Sequence[str]


class EnvironmentLoader(Generic[Env]):
    """Makes environments of one suite.

    Validating all data takes 20 ms, because it contains hundreds of e-mail addresses, but only a
    few items have planted contents. So an environment is a copy of the pristine one in which models
    validated from these items' data replace the items. When an item is replaced for the first time,
    the environment is compared with one that was validated as a whole; if they differ, this suite
    is always validated as a whole.
    """

    def __init__(self, kind: type[Env], data: SuiteData, defaults: Mapping[str, str]) -> None:
        self._kind, self._data, self._defaults = kind, data, defaults
        self._pristine = self._validated({})
        self._items: list[_Item] | None = _items(data, self._pristine)
        self._compared: set[Path] = set()
        self._cloner = ModelCloner(self._pristine, [item.original for item in self._items or ()])
        self._made: OrderedDict[tuple[Path, _Planted], ModelCloner[BaseModel]] = OrderedDict()

    def load(self, contents: Mapping[str, str]) -> Env:
        """Return a new environment with ``contents`` planted in it."""
        if self._items is None:
            return self._validated(contents)
        items = [item for item in self._items if not contents.keys().isdisjoint(item.vectors)]
        environment = self._cloner.clone(
            {id(item.original): self._make(item, contents).clone() for item in items}
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

    def _make(self, item: _Item, contents: Mapping[str, str]) -> ModelCloner[BaseModel]:
        key = (item.path, tuple((vector, contents.get(vector)) for vector in item.vectors))
        if key in self._made:
            self._made.move_to_end(key)
        else:
            values = {**self._defaults, **contents}
            data = self._data.filled(item.path, values, exact=contents.keys())
            self._made[key] = ModelCloner(type(item.original).model_validate(data))
            if len(self._made) > _KEPT:
                self._made.popitem(last=False)
        return self._made[key]


def _items(data: SuiteData, pristine: BaseModel) -> list[_Item] | None:
    """Return the innermost models that contain vectors; ``None`` if a vector is in no model."""
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
