"""The data of an AgentDojo suite, with contents filled in for its injection vectors."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import yaml

Path: TypeAlias = tuple[Any, ...]
"""Keys and positions from the root of the data."""

# libyaml reads a suite's data some thirty times faster than the pure Python loader.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_UNQUOTABLE = re.compile(
    r'"|(?:^|\n)(?:---|\.\.\.)|[^\t\n\r\x20-\x7E\x85\xA0-\uD7FF\uE000-\uFFFD'
    "\U00010000-\U0010ffff]"
)
"""What cannot stand as it is in a double-quoted YAML scalar."""


@dataclass(frozen=True)
class Place:
    """A text of the data in which vectors stand."""

    path: Path
    source: str
    """The text as it is written in YAML, quotes included, with tokens for the vectors."""
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
        """The texts in which vectors stand."""
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
    """Whether YAML reads ``content`` as a part of a double-quoted text."""
    if _UNQUOTABLE.search(content):
        return False
    if "\\" not in content:
        return True
    try:
        yaml.load(f'"{content}"', Loader=_Loader)
    except yaml.YAMLError:
        return False
    return True
