"""The key ``sweep`` of an eval file: lists of values, ranges and trials -> one point per cell."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import product
from math import prod

from pytest_siren.evaluation.bounds import MOST_RUNS_OF_TASK
from pytest_siren.spec.overrides import AGENT, ATTACK, MODEL, NAMED_ELSEWHERE, Point, Value
from pytest_siren.yamlpos.problems import Problem, shown
from pytest_siren.yamlpos.reader import Node, Place, node_of

MOST_CELLS = 10_000
"""Cells that one file may sweep over, and values that one range may have."""
_ALIASES = {
    "model": MODEL,
    "agent": AGENT,
    "temperature": "agent.config.model_settings.temperature",
    "temps": "agent.config.model_settings.temperature",
}
_MAKING_JOBS = ("dataset", "agent", "attack", "finish")
"""First parts of the keys that enter the identity of a job."""
_TRIALS, _RUNS = "trials", "runs"
_ENTRY = frozenset({"value", "name", "runs"})
_RANGE = frozenset({"from", "to", "step"})


def points(
    sweep: Node, replaced: Sequence[str], problems: list[Problem], *, runs: bool
) -> tuple[Point, ...]:
    """Return the cells of ``sweep``, in order; one without values where none is left.

    ``replaced`` are keys that options give, which win; with ``runs`` they give that, too. What is
    wrong is added to ``problems``, and left out.
    """
    if not isinstance(sweep.value, dict):
        problems.append(sweep.place.problem(f"sweep: {shown(sweep.plain())} is not a mapping"))
        return (Point(),)
    if (trials := sweep.child(_TRIALS)) is not None:
        found = list(_trials(trials, problems))
    else:
        found = _cells(sweep, problems)
    kept = [tuple(value for value in cell if value.key not in replaced) for cell in found]
    made = _points(kept, problems, with_runs=not runs)
    return tuple(made) or (Point(),)


def outdone(sweep: Node) -> list[str]:
    """Return the axes of ``sweep`` without effect, because its trials override them."""
    if not isinstance(sweep.value, dict) or _TRIALS not in sweep.value:
        return []
    return [key for key in sweep.value if key != _TRIALS]


def _cells(sweep: Node, problems: list[Problem]) -> list[tuple[Value, ...]]:
    assert isinstance(sweep.value, dict)
    axes: dict[str, list[Value]] = {}
    for name, node in sweep.value.items():
        key, adds = _key(name, node, problems)
        if key is None:
            continue
        if key in axes:
            problems.append(node.place.problem(f"sweep: {name} is another name of {key}"))
            continue
        axes[key] = _axis(name, key, adds, node, problems)
    cells = prod(map(len, axes.values()))
    if cells > MOST_CELLS:
        message = f"sweep: {cells:,} cells; a file may have {MOST_CELLS:,} at most"
        problems.append(sweep.place.problem(message))
        return []
    return list(product(*axes.values()))


def _key(name: str, node: Node, problems: list[Problem]) -> tuple[str | None, bool]:
    """Return the key that the axis ``name`` is about, and whether it may be new."""
    adds, plain = name.startswith("+"), name.removeprefix("+")
    key = _ALIASES.get(plain, plain)
    if plain == "" or "" in plain.split(".") or plain.startswith("~"):
        problems.append(node.place.problem(f"sweep: {shown(name)} is no key of an eval file"))
        return None, adds
    if key.partition(".")[0] not in _MAKING_JOBS:
        message = f"sweep: {shown(key)} makes no other job; {', '.join(_MAKING_JOBS)} do"
        problems.append(node.place.problem(message))
        return None, adds
    return key, adds


def _axis(name: str, key: str, adds: bool, node: Node, problems: list[Problem]) -> list[Value]:
    try:
        nodes = _listed(node)
    except ValueError as error:
        problems.append(node.place.problem(f"sweep.{name}: {error}"))
        return []
    values: list[Value] = []
    for one in nodes:
        value = _value(name, key, adds, one, problems)
        if value is None:
            continue
        if any(value.text == other.text for other in values):
            message = f"sweep.{name}: {shown(value.text)} is given twice"
            problems.append(one.place.problem(message))
            continue
        values.append(value)
    return values


def _value(name: str, key: str, adds: bool, one: Node, problems: list[Problem]) -> Value | None:
    node, text, runs = one, None, None
    if isinstance(one.value, dict) and "value" in one.value and one.value.keys() <= _ENTRY:
        node, runs = one.value["value"], one.child(_RUNS)
        label = one.child("name")
        if label is not None and not (isinstance(label.value, str) and label.value):
            problems.append(label.place.problem(f"sweep.{name}: name must be a string"))
            return None
        text = None if label is None else str(label.value)
    if key in NAMED_ELSEWHERE and not _is_name(node, key):
        what = "a name, or null for the benign tasks" if key == ATTACK else "a name"
        problems.append(node.place.problem(f"sweep.{name}: {shown(node.plain())} is not {what}"))
        return None
    if runs is not None and not _is_count(runs):
        message = f"sweep.{name}: runs must be a number from 1 to {MOST_RUNS_OF_TASK:,}"
        problems.append(runs.place.problem(message))
        return None
    return Value(key, node, text or _text(node), adds, runs)


def _is_name(node: Node, key: str) -> bool:
    named = isinstance(node.value, str) and bool(node.value.strip())
    return named or (key == ATTACK and node.value is None)


def _is_count(node: Node) -> bool:
    return type(node.value) is int and 1 <= node.value <= MOST_RUNS_OF_TASK


def _text(node: Node) -> str:
    plain = node.plain()
    return plain if isinstance(plain, str) else json.dumps(plain, separators=(",", ":"))


def _listed(node: Node) -> Sequence[Node]:
    """Return the values of an axis. Raises ``ValueError`` for what is neither list nor range."""
    if isinstance(node.value, tuple):
        if not node.value:
            raise ValueError("the list is empty")
        return node.value
    if isinstance(node.value, dict) and node.value.keys() == {"linspace"}:
        return _linspace(node.value["linspace"])
    if isinstance(node.value, dict) and node.value.keys() == _RANGE:
        return _stepped(*(node.value[name] for name in ("from", "to", "step")))
    raise ValueError(
        f"{shown(node.plain())} is neither a list, nor {{from, to, step}}, nor "
        "{linspace: [FROM, TO, COUNT]}"
    )


def _linspace(node: Node) -> list[Node]:
    plain = node.plain()
    if not (isinstance(plain, list) and len(plain) == 3 and all(map(_is_number, plain))):
        raise ValueError(f"linspace is {shown(plain)}, not [FROM, TO, COUNT]")
    first, last = _exact(plain[0]), _exact(plain[1])
    count = plain[2]
    if type(count) is not int or not 2 <= count <= MOST_CELLS:
        raise ValueError(f"the COUNT of linspace must be from 2 to {MOST_CELLS:,}")
    numbers = [first + (last - first) * index / (count - 1) for index in range(count)]
    return _numbers(numbers, plain[:2], node.place)


def _stepped(first: Node, last: Node, step: Node) -> list[Node]:
    plain = [first.value, last.value, step.value]
    if not all(map(_is_number, plain)):
        raise ValueError("from, to and step must be numbers")
    start, end, width = map(_exact, plain)
    if width == 0 or (end - start) / width < 0:
        raise ValueError(f"step {plain[2]} does not lead from {plain[0]} to {plain[1]}")
    count = int((end - start) / width) + 1
    if count > MOST_CELLS:
        raise ValueError(f"the range has {count:,} values, {MOST_CELLS:,} at most are possible")
    numbers = [start + index * width for index in range(count)]
    return _numbers(numbers, plain, first.place)


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def _exact(value: object) -> Fraction:
    """Return the number that was written: 0.1 is a tenth."""
    return Fraction(str(value))


def _numbers(numbers: Sequence[Fraction], written: Sequence[object], place: Place) -> list[Node]:
    whole = all(type(one) is int for one in written)
    whole = whole and all(number.denominator == 1 for number in numbers)
    return [node_of(int(number) if whole else float(number), place) for number in numbers]


def _trials(trials: Node, problems: list[Problem]) -> Iterator[tuple[Value, ...]]:
    """Yield the values of each trial."""
    if not isinstance(trials.value, tuple) or not trials.value:
        problems.append(trials.place.problem("sweep.trials must be a list of mappings"))
        return
    if len(trials.value) > MOST_CELLS:
        message = f"sweep.trials: {MOST_CELLS:,} trials at most are possible"
        problems.append(trials.place.problem(message))
        return
    for index, trial in enumerate(trials.value):
        where = f"{_TRIALS}[{index}]"
        if not isinstance(trial.value, dict) or not trial.value.keys() - {_RUNS}:
            problems.append(
                trial.place.problem(f"sweep.{where} must be a mapping of keys to values")
            )
            continue
        values: dict[str, Value] = {}
        for name, node in trial.value.items():
            if name == _RUNS:
                continue
            key, adds = _key(name, node, problems)
            value = key and _value(f"{where}.{name}", key, adds, node, problems)
            if value and value.key in values:
                message = f"sweep.{where}: {name} is another name of {value.key}"
                problems.append(node.place.problem(message))
            elif value:
                values[value.key] = value
        if (runs := trial.child(_RUNS)) is not None and not _is_count(runs):
            message = f"sweep.{where}: runs must be a number from 1 to {MOST_RUNS_OF_TASK:,}"
            problems.append(runs.place.problem(message))
            continue
        yield _with_runs(tuple(values.values()), runs)


def _with_runs(values: tuple[Value, ...], runs: Node | None) -> tuple[Value, ...]:
    """Return ``values``, each with the runs of their trial, whichever of them options replace."""
    return values if runs is None else tuple(replace(value, runs=runs) for value in values)


def _points(
    cells: Sequence[tuple[Value, ...]], problems: list[Problem], *, with_runs: bool
) -> list[Point]:
    varying = _varying(cells)
    made: dict[tuple[tuple[str, str], ...], Point] = {}
    for cell in cells:
        runs = [value.runs for value in cell if value.runs is not None]
        if len({node.value for node in runs}) > 1:
            counts = " and ".join(str(node.value) for node in runs)
            message = f"sweep: runs is {counts} for the same cell; give it on one axis"
            problems.append(runs[1].place.problem(message))
            continue
        labels = {
            value.key: value.text
            for value in cell
            if value.key in varying and value.key not in NAMED_ELSEWHERE
        }
        point = Point(cell, runs[0] if runs and with_runs else None, labels)
        # Options may make cells equal; the first one decides the number of runs.
        made.setdefault(tuple((value.key, value.text) for value in cell), point)
    return list(made.values())


def _varying(cells: Sequence[tuple[Value, ...]]) -> set[str]:
    """Return the keys that have several values, or that only some cells have."""
    texts: dict[str, set[str]] = {}
    seen: dict[str, int] = {}
    for cell in cells:
        for value in cell:
            texts.setdefault(value.key, set()).add(value.text)
            seen[value.key] = seen.get(value.key, 0) + 1
    return {key for key, found in texts.items() if len(found) > 1 or seen[key] < len(cells)}
