"""Builds nodes out of YAML parser events, within limits that hostile files cannot pass."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml
from yaml import events as yaml_events

from pytest_siren.yamlpos.nodes import Node, Place, Scalar, branch, moved, resolve
from pytest_siren.yamlpos.problems import Problem, within
from pytest_siren.yamlpos.problems import shown as as_shown

_MAX_DEPTH = 100
_MAX_ALIASED = 100_000
_MAX_REPEATED = 10
"""Times that a file's own size may be exceeded by aliases, where it is large."""
_SHORT = 32
_TEXT_TAGS = ("!", "tag:yaml.org,2002:str")
_KNOWN_TAGS = {
    yaml_events.ScalarEvent: _TEXT_TAGS,
    yaml_events.SequenceStartEvent: ("tag:yaml.org,2002:seq",),
    yaml_events.MappingStartEvent: ("tag:yaml.org,2002:map",),
}


class UnreadableError(ValueError):
    """The rest of the file makes no sense; ``problem`` says why."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(str(problem))


@dataclass
class _Open:
    """A list or mapping whose end has not come yet."""

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
    """Takes events one by one; then ``root`` is the document and ``problems`` what is wrong."""

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
        # Files of many tasks repeat their keys and short values a hundred thousand times.
        self._texts: dict[str, str] = {}
        self._place = Place(path, 1)

    def add(self, event: yaml_events.Event) -> None:
        """Take the next event. Raises ``UnreadableError``, and then wants no more."""
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
    """Return what the regular file ``path``, or the one that it is a link to, holds.

    Raises ``OSError``, also for pipes, devices and sockets: to read one may never end.
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

    ``resolve`` says what an unquoted scalar means.
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
