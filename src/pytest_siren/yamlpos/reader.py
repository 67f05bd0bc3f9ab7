"""Reads YAML 1.2: values, each with its file, line and key."""

from __future__ import annotations

import errno
import math
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import yaml
from yaml import events as yaml_events

from pytest_siren.yamlpos.problems import KeyPath, Problem, within
from pytest_siren.yamlpos.problems import shown as as_shown

Scalar: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Place:
    """The origin of a value: a line of a file, or an option of the command line."""

    path: Path
    line: int | None
    option: str | None = None

    def problem(self, message: str) -> Problem:
        prefix = f"{self.option}: " if self.option else ""
        return Problem(self.path, self.line, f"{prefix}{message}")


@dataclass(frozen=True, slots=True)
class Node:
    """A scalar, a list or a mapping of nodes; immutable, so nodes may share parts."""

    value: Scalar | tuple[Node, ...] | dict[str, Node]
    place: Place
    """Of the key that names the value, where it has one."""
    size: int = field(default=1, compare=False)
    """Number of scalars, lists and mappings in it, including itself; aliases count in full."""
    depth: int = field(default=1, compare=False)
    """Number of levels, including its own."""

    def plain(self) -> Any:
        """Return the value as new JSON data."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, tuple):
            return [child.plain() for child in self.value]
        return self.value

    def child(self, part: str | int) -> Node | None:
        """Return the value of a key or at an index; ``None`` where there is none."""
        if isinstance(self.value, dict) and isinstance(part, str):
            return self.value.get(part)
        if isinstance(self.value, tuple) and isinstance(part, int):
            return self.value[part] if 0 <= part < len(self.value) else None
        return None

    def at(self, path: Sequence[str | int]) -> Node | None:
        """Return the value at ``path``; ``None`` where there is none."""
        node: Node | None = self
        for part in path:
            if node is None:
                return None
            node = node.child(part)
        return node

    def nearest(self, path: Sequence[str | int]) -> Node:
        """Return the value at ``path``, or the last one on the way to it."""
        node = self
        for part in path:
            below = node.child(part)
            if below is None:
                break
            node = below
        return node


def branch(value: tuple[Node, ...] | dict[str, Node], place: Place) -> Node:
    """Return a list or mapping node."""
    children = value.values() if isinstance(value, dict) else value
    size = 1 + sum(child.size for child in children)
    return Node(value, place, size, 1 + max((child.depth for child in children), default=0))


def node_of(data: Any, place: Place) -> Node:
    """Return JSON data as nodes that all have the origin ``place``."""
    if isinstance(data, dict):
        return branch({key: node_of(item, place) for key, item in data.items()}, place)
    if isinstance(data, list | tuple):
        return branch(tuple(node_of(item, place) for item in data), place)
    return Node(data, place)


def merged(under: Node, over: Node) -> Node:
    """Return ``over`` laid upon ``under``: mappings key by key, all else replaced."""
    if not (isinstance(under.value, dict) and isinstance(over.value, dict)):
        return over
    value = dict(under.value)
    for key, child in over.value.items():
        value[key] = merged(value[key], child) if key in value else child
    return branch(value, over.place)


class NotAMappingError(ValueError):
    """A path leads through a value without keys."""

    def __init__(self, path: KeyPath) -> None:
        self.path = path
        super().__init__(path)


def with_value(root: Node, path: KeyPath, new: Node) -> Node:
    """Return ``root`` with ``new`` at ``path``; missing and null mappings on the way are made.

    Raises ``NotAMappingError`` with the part of ``path`` that can hold nothing.
    """
    return _with(root, path, new, 0)


def _with(node: Node, path: KeyPath, new: Node, depth: int) -> Node:
    if depth == len(path):
        return new
    part = path[depth]
    if isinstance(node.value, tuple) and isinstance(part, int) and part < len(node.value):
        items = list(node.value)
        items[part] = _with(items[part], path, new, depth + 1)
        return branch(tuple(items), node.place)
    if (isinstance(node.value, dict) or node.value is None) and isinstance(part, str):
        value = dict(node.value or {})
        below = value.get(part, Node(None, new.place))
        value[part] = _with(below, path, new, depth + 1)
        return branch(value, node.place)
    raise NotAMappingError(path[:depth])


def without(root: Node, path: KeyPath) -> Node:
    """Return ``root`` without the key or item at ``path``, which must be there."""
    parent = root.at(path[:-1])
    if parent is None or parent.child(path[-1]) is None:
        raise KeyError(path)
    if isinstance(parent.value, dict):
        kept: Any = {key: node for key, node in parent.value.items() if key != path[-1]}
    else:
        assert isinstance(parent.value, tuple)
        kept = tuple(node for index, node in enumerate(parent.value) if index != path[-1])
    return with_value(root, path[:-1], branch(kept, parent.place))


def moved(node: Node, place: Place) -> Node:
    """Return ``node`` with the origin ``place``; its parts keep theirs."""
    return Node(node.value, place, node.size, node.depth)


_WORDS: dict[str, Scalar] = {
    word: value
    for value, words in (
        (None, ("", "~", "null", "Null", "NULL")),
        (True, ("true", "True", "TRUE")),
        (False, ("false", "False", "FALSE")),
    )
    for word in words
}
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_OCTAL_LOOK = re.compile(r"[-+]?0[0-9]+")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
NOT_IN_1_1 = re.compile(r"(?:[-+]?[0-9]+[eE][-+]?[0-9]+|0o[0-7]+)$")
"""Numbers in YAML 1.2 that are texts in YAML 1.1."""
_NUMBER_STARTS = "+-.0123456789"
_LONGEST_NUMBER = 100


def resolve(text: str) -> Scalar:
    """Return the value of the unquoted scalar ``text``.

    Raises ``ValueError`` for infinity and not-a-number, which JSON, and so a record, cannot hold.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_STARTS or len(text) > _LONGEST_NUMBER or _OCTAL_LOOK.fullmatch(text):
        return text
    if _DECIMAL.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _NOT_FINITE.fullmatch(text) or (_FLOAT.fullmatch(text) and math.isinf(float(text))):
        raise ValueError(f"{text!r} is not a finite number (put text in quotes)")
    return float(text) if _FLOAT.fullmatch(text) else text


def resolve_dumped(text: str) -> Scalar:
    """Return the value that PyYAML wrote as ``text``, unquoted.

    PyYAML, which follows YAML 1.1, quotes texts with another value there, but neither ``1e3`` nor
    ``0o17``, and writes no number like these. Raises as ``resolve``.
    """
    return text if NOT_IN_1_1.fullmatch(text) else resolve(text)


_MAX_DEPTH = 100
_MAX_ALIASED = 100_000
_MAX_REPEATED = 10
"""Factor by which aliases may expand a large file."""
_SHORT = 32
_TEXT_TAGS = ("!", "tag:yaml.org,2002:str")
_KNOWN_TAGS = {
    yaml_events.ScalarEvent: _TEXT_TAGS,
    yaml_events.SequenceStartEvent: ("tag:yaml.org,2002:seq",),
    yaml_events.MappingStartEvent: ("tag:yaml.org,2002:map",),
}


class UnreadableError(ValueError):
    """The rest of the file cannot be parsed; ``problem`` is the reason."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(str(problem))


@dataclass
class _Open:
    """A list or mapping whose end has not been read yet."""

    line: int
    anchor: str | None
    mapping: bool
    items: list[Node] = field(default_factory=list)
    entries: dict[str, Node] = field(default_factory=dict)
    merges: list[Node] = field(default_factory=list)
    key: str | None = None
    """The key whose value comes next."""
    key_line: int = 0
    merge: bool = False
    """Whether ``key`` is the merge key ``<<``."""


class NodeBuilder:
    """Builds the document ``root`` from parser events, and collects its ``problems``."""

    def __init__(self, path: Path, resolve: Callable[[str], Scalar] = resolve) -> None:
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self._path = path
        self._resolve = resolve
        self._open: list[_Open] = []
        self._anchors: dict[str, Node | None] = {}
        self._written = 0
        self._aliased = 0
        self._documents = 0
        # Files with many tasks repeat their keys and short values a hundred thousand times.
        self._texts: dict[str, str] = {}
        self._place = Place(path, 1)

    def add(self, event: yaml_events.Event) -> None:
        """Process the next event. Raises ``UnreadableError``, after which it accepts no more."""
        line = event.start_mark.line + 1 if event.start_mark else 1
        match event:
            case yaml_events.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    self._fail(line, "a second YAML document begins here; a file holds one")
            case yaml_events.ScalarEvent():
                self._scalar(event, line)
            case yaml_events.AliasEvent():
                self._alias(str(event.anchor), line)
            case yaml_events.CollectionStartEvent():
                self._begin(event, line)
            case yaml_events.CollectionEndEvent():
                self._end()

    def _scalar(self, event: yaml_events.ScalarEvent, line: int) -> None:
        self._check_tag(event, line)
        self._written += 1
        text = event.value
        if len(text) <= _SHORT:
            text = self._texts.setdefault(text, text)
        if self._wants_key():
            if event.anchor:
                self._anchors[event.anchor] = Node(text, self._at(line))
            self._key(text, line, merge=text == "<<" and event.implicit[0])
            return
        plain = event.implicit[0] and event.tag is None
        try:
            value = self._resolve(text) if plain else text
        except ValueError as error:
            self.problems.append(Problem(self._path, line, f"{error}{self._where()}"))
            value = text
        self._value(Node(value, self._at(line)), event.anchor)

    def _key(self, text: str, line: int, *, merge: bool) -> None:
        top = self._open[-1]
        if text in top.entries and not merge:
            first = top.entries[text].place.line
            message = f"duplicate key {as_shown(text)}{self._where()} (first on line {first})"
            self.problems.append(Problem(self._path, line, message))
        top.key, top.key_line, top.merge = text, line, merge

    def _alias(self, name: str, line: int) -> None:
        if self._wants_key():
            self._fail(line, f"the alias '*{name}' cannot be a key")
        if name not in self._anchors:
            self._fail(line, f"unknown alias '*{name}': no anchor '&{name}' precedes it")
        node = self._anchors[name]
        if node is None:
            self._fail(line, f"the alias '*{name}' is part of what it repeats")
        if len(self._open) + node.depth > _MAX_DEPTH:
            self._fail(line, f"nested deeper than {_MAX_DEPTH} levels")
        self._aliased += node.size
        most = max(_MAX_ALIASED, _MAX_REPEATED * self._written)
        if self._aliased > most:
            self._fail(line, f"the aliases expand to more than {most:,} values")
        self._value(node, None)

    def _begin(self, event: yaml_events.CollectionStartEvent, line: int) -> None:
        if self._wants_key():
            self._fail(line, "a key must be text, not a list or a mapping")
        self._check_tag(event, line)
        if len(self._open) >= _MAX_DEPTH:
            self._fail(line, f"nested deeper than {_MAX_DEPTH} levels")
        if event.anchor:
            self._anchors[event.anchor] = None
        mapping = isinstance(event, yaml_events.MappingStartEvent)
        self._open.append(_Open(line, event.anchor, mapping))

    def _end(self) -> None:
        ended = self._open.pop()
        place = self._at(ended.line)
        if not ended.mapping:
            self._value(branch(tuple(ended.items), place), ended.anchor)
            return
        if not ended.merges:
            self._value(branch(ended.entries, place), ended.anchor)
            return
        entries: dict[str, Node] = {}
        for source in (*reversed(ended.merges), Node(ended.entries, place)):
            assert isinstance(source.value, dict)
            entries.update(source.value)
        self._value(branch(entries, place), ended.anchor)

    def _value(self, node: Node, anchor: str | None) -> None:
        if anchor:
            self._anchors[anchor] = node
        if not self._open:
            self.root = node
            return
        top = self._open[-1]
        if not top.mapping:
            top.items.append(node)
            return
        key, top.key = top.key, None
        assert key is not None
        if top.merge:
            self._merge(node, top)
        else:
            at_key = node.place.line == top.key_line
            top.entries[key] = node if at_key else moved(node, self._at(top.key_line))

    def _merge(self, node: Node, top: _Open) -> None:
        sources = node.value if isinstance(node.value, tuple) else (node,)
        if all(isinstance(source.value, dict) for source in sources):
            top.merges.extend(sources)
        else:
            message = f"'<<'{self._where()} takes a mapping or a list of mappings"
            self.problems.append(Problem(self._path, top.key_line, message))

    def _at(self, line: int) -> Place:
        if self._place.line != line:
            self._place = Place(self._path, line)
        return self._place

    def _wants_key(self) -> bool:
        return bool(self._open) and self._open[-1].mapping and self._open[-1].key is None

    def _where(self) -> str:
        path: list[str | int] = []
        for level in self._open[:-1]:
            path.append(level.key or "" if level.mapping else len(level.items))
        return within(path)

    def _check_tag(
        self, event: yaml_events.ScalarEvent | yaml_events.CollectionStartEvent, line: int
    ) -> None:
        if event.tag is not None and event.tag not in _KNOWN_TAGS[type(event)]:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self._fail(line, f"the YAML tag {as_shown(tag)} is not allowed: files hold plain data")

    def _fail(self, line: int, message: str) -> NoReturn:
        raise UnreadableError(Problem(self._path, line, message))


def read_bytes(path: Path) -> bytes:
    """Return the content of the regular file ``path``, or of the file that it links to.

    Raises ``OSError``, also for pipes, devices and sockets, which may never end.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        return file.read()


_NOT_ALLOWED = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"  # YAML 1.2.2, 5.1
)


def read_yaml(path: Path, shown: Path) -> tuple[Node | None, list[Problem]]:
    """Return the mapping that the file holds, ``None`` if it holds none, and all problems.

    ``shown`` is the path in messages. Nothing in the file is ever code: tags are refused, aliases
    may expand to 100,000 values (or ten times what the file holds), and nesting is at most 100
    levels deep.
    """
    try:
        data = read_bytes(path)
    except OSError as error:
        return None, [Problem(shown, None, f"cannot be read: {error.strerror or error}")]
    root, problems = decode_yaml(data, shown)
    if root is None or root.value is None:
        return None, problems or [Problem(shown, None, "the file is empty")]
    if not isinstance(root.value, dict):
        message = f"the top level must be a mapping of keys, not {_kind(root)}"
        return None, [*problems, Problem(shown, root.place.line, message)]
    return root, problems


def decode_yaml(
    data: bytes, shown: Path, resolve: Callable[[str], Scalar] = resolve
) -> tuple[Node | None, list[Problem]]:
    """Return the value of the only YAML document in ``data``, as ``parse_yaml`` does."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start]
        return None, [Problem(shown, line, f"not UTF-8 text (byte 0x{byte:02x})")]
    return parse_yaml(text, shown, resolve)


def parse_yaml(
    text: str, shown: Path, resolve: Callable[[str], Scalar] = resolve
) -> tuple[Node | None, list[Problem]]:
    """Return the value of the only YAML document in ``text``, ``None`` if there is none.

    ``resolve`` converts unquoted scalars.
    """
    if bad := _NOT_ALLOWED.search(text):
        line = text.count("\n", 0, bad.start()) + 1
        code = f"U+{ord(bad.group()):04X}"
        return None, [Problem(shown, line, f"YAML does not allow the character {code}")]
    builder = NodeBuilder(shown, resolve)
    try:
        for event in _events(text):
            builder.add(event)
    except UnreadableError as error:
        return None, [*builder.problems, error.problem]
    except yaml.MarkedYAMLError as error:
        return None, [*builder.problems, _syntax_problem(error, text, shown)]
    return builder.root, builder.problems


def _events(text: str) -> Iterator[Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    events: Iterator[Any] = yaml.parse(text, Loader=loader)
    return events


def _syntax_problem(error: yaml.MarkedYAMLError, text: str, shown: Path) -> Problem:
    mark = error.problem_mark or error.context_mark
    index, column = (mark.line, mark.column) if mark else (0, 0)
    lines = text.splitlines() or [""]
    if index >= len(lines) or (index, column) == (len(lines) - 1, len(lines[-1])):
        return Problem(shown, len(lines), f"invalid YAML: it ends {error.context}")
    line = lines[index]
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return Problem(shown, index + 1, "the line is indented with a tab; YAML wants spaces")
    return Problem(shown, index + 1, f"invalid YAML: {error.problem or error.context}")


def _kind(node: Node) -> str:
    return "a list" if isinstance(node.value, tuple) else "a single value"
