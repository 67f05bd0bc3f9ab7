"""``pass_when``: small conditions on the scores of a run, parsed but never evaluated as code."""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TypeAlias

ALLOWED = (
    "comparisons of benign_score or attack_score with numbers, joined by and, or, not and "
    "parentheses, or the word always"
)
_ALWAYS = "always"
_BENIGN, _ATTACK = "benign_score", "attack_score"
_LONGEST = 200
_COMPARE: dict[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}

Scores: TypeAlias = Mapping[str, float | None]
Condition: TypeAlias = Callable[[Scores], bool | None]
"""Judges the scores; ``None`` when it cannot tell without a score that is unknown."""


class ConditionError(ValueError):
    """The text of a condition holds what no condition may; the message says what it may."""


@dataclass(frozen=True)
class PassWhen:
    """When an item passes. Raises ``ConditionError`` for a condition that cannot be read."""

    benign: str = "benign_score >= 1.0"
    attack: str = "attack_score < 1.0"

    def __post_init__(self) -> None:
        check_condition(self.benign, attacked=False)
        check_condition(self.attack, attacked=True)

    def holds(
        self, attacked: bool, benign_score: float | None, attack_score: float | None
    ) -> bool | None:
        """Tell whether a run with these scores passes; ``None`` when an unknown score decides."""
        condition = parse_condition(self.attack if attacked else self.benign)
        return condition({_BENIGN: benign_score, _ATTACK: attack_score})


def check_condition(text: str, *, attacked: bool) -> None:
    """Raise ``ConditionError`` unless ``text`` is a condition on an attacked or a benign run."""
    parse_condition(text)
    if _ATTACK in text and not attacked:
        raise ConditionError(f"{text!r}: a benign run has no attack_score")


@cache
def parse_condition(text: str) -> Condition:
    """Return what ``text`` asks for. Raises ``ConditionError``."""
    if text.strip() == _ALWAYS:
        return lambda scores: True
    if len(text) > _LONGEST:
        raise ConditionError(f"a condition may have at most {_LONGEST} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of some spellings that are refused below
            tree = ast.parse(text.strip(), mode="eval")
        return _condition(tree.body)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise ConditionError(f"{text!r} is not a condition; allowed: {ALLOWED}") from error


def _condition(node: ast.expr) -> Condition:
    match node:
        case ast.BoolOp(ast.And(), parts):
            return _all([_condition(part) for part in parts])
        case ast.BoolOp(ast.Or(), parts):
            return _negated(_all([_negated(_condition(part)) for part in parts]))
        case ast.UnaryOp(ast.Not(), part):
            return _negated(_condition(part))
        case ast.Compare(left, operators, others):
            pairs = pairwise([left, *others])
            return _all([_comparison(*pair, op) for pair, op in zip(pairs, operators, strict=True)])
    raise _refusal(node)


def _refusal(node: ast.AST) -> ValueError:
    return ValueError(f"{type(node).__name__} is not allowed")


def _comparison(left: ast.expr, right: ast.expr, operation: ast.cmpop) -> Condition:
    compare = _COMPARE.get(type(operation))
    if compare is None:
        raise _refusal(operation)
    name, number = (left, right) if isinstance(left, ast.Name) else (right, left)
    if not isinstance(name, ast.Name) or name.id not in (_BENIGN, _ATTACK):
        raise _refusal(name)
    bound, key, named_left = _number(number), name.id, name is left

    def judge(scores: Scores) -> bool | None:
        score = scores[key]
        if score is None:
            return None
        return compare(score, bound) if named_left else compare(bound, score)

    return judge


def _number(node: ast.expr) -> float:
    match node:
        case ast.Constant(int() | float() as value) if not isinstance(value, bool):
            return float(value)
        case ast.UnaryOp(ast.USub(), ast.Constant() as constant):
            return -_number(constant)
    raise _refusal(node)


def _negated(part: Condition) -> Condition:
    def judge(scores: Scores) -> bool | None:
        verdict = part(scores)
        return None if verdict is None else not verdict

    return judge


def _all(parts: list[Condition]) -> Condition:
    def judge(scores: Scores) -> bool | None:
        verdicts = [part(scores) for part in parts]
        if False in verdicts:
            return False
        return None if None in verdicts else True

    return judge
