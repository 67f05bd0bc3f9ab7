"""Attack templates: Jinja2 in a sandbox, every variable defined."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from types import TracebackType
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError, meta, nodes

from pytest_siren.attacks.template_budget import Budget, check_size
from pytest_siren.attacks.template_sandbox import BUDGET, TemplateSandbox, counted_range

_VARIABLES = ("goal", "user", "model", "template_fields")


class AttackTemplateError(ValueError):
    """An attack template cannot be used; the message names its line where that is known."""


class AttackTemplate:
    """A template with its own fields, checked as far as it can be without a run."""

    def __init__(self, source: str, fields: Mapping[str, Any]) -> None:
        """Raise ``AttackTemplateError`` for bad syntax and for variables that nobody defines."""
        self._fields = dict(fields)
        environment = TemplateSandbox()
        try:
            tree = environment.parse(source)
            used = meta.find_undeclared_variables(tree)
            refers = any(True for _ in meta.find_referenced_templates(tree))
            checked = environment.parse(source)
            self._template = environment.from_string(environment.bounded(tree))
        except TemplateSyntaxError as error:
            raise AttackTemplateError(f"line {error.lineno}: {error.message}") from None
        except RecursionError:
            raise AttackTemplateError("nested too deeply") from None
        if refers:
            raise AttackTemplateError("cannot include, import or extend other templates")
        _check_names(checked, used, self._fields)

    def render(self, *, goal: str, user: str, model: str) -> str:
        """Return the text. The values stand in it as they are; they are no templates.

        Raises ``AttackTemplateError``.
        """
        budget = {BUDGET: Budget()}
        values = {"user": user, "model": model, **self._fields, "goal": goal, **budget}
        pieces: list[str] = []
        length = 0
        try:
            for piece in self._template.generate(
                values, template_fields=self._fields, range=counted_range()
            ):
                pieces.append(piece)
                length += len(piece)
                check_size(length)
        # What an expression in a template may raise: any operator or method on the values given.
        except (
            TemplateError,
            ArithmeticError,
            AttributeError,
            LookupError,
            MemoryError,
            RecursionError,
            TypeError,
            ValueError,
        ) as error:
            raise AttackTemplateError(
                f"{_line(error.__traceback__)}{str(error) or type(error).__name__}"
            ) from error
        return "".join(pieces)


def _check_names(tree: nodes.Template, used: set[str], fields: Mapping[str, Any]) -> None:
    known = [*_VARIABLES, *(name for name in fields if name not in _VARIABLES)]
    for name in tree.find_all(nodes.Name):
        if name.ctx == "load" and name.name in used and name.name not in known:
            raise AttackTemplateError(_undefined(name.lineno, name.name, known))
    for access in tree.find_all((nodes.Getattr, nodes.Getitem)):
        field = _field_name(access)
        if field is not None and field not in fields and not hasattr(dict, field):
            known = [f"template_fields.{name}" for name in fields]
            raise AttackTemplateError(_undefined(access.lineno, f"template_fields.{field}", known))


def _field_name(access: nodes.Node) -> str | None:
    """Return ``x`` for ``template_fields.x`` and ``template_fields["x"]``."""
    match access:
        case nodes.Getattr(node=nodes.Name(name="template_fields"), attr=field):
            return str(field)
        case nodes.Getitem(
            node=nodes.Name(name="template_fields"), arg=nodes.Const(value=str(key))
        ):
            return key
    return None


def _undefined(line: int, name: str, known: list[str]) -> str:
    nearest = get_close_matches(name, known, n=1)
    hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
    return f"line {line}: {name!r} is undefined{hint}; known: {', '.join(known) or 'none'}"


def _line(traceback: TracebackType | None) -> str:
    """Return ``line 3: `` for an error that was raised while a template was rendered."""
    line = None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == "<template>":
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return f"line {line}: " if line else ""
