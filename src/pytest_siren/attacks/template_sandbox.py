"""The sandbox that attack templates are rendered in: nothing unsafe, random, huge or endless."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from jinja2 import StrictUndefined, nodes, pass_context
from jinja2.runtime import Context
from jinja2.sandbox import MAX_RANGE, ImmutableSandboxedEnvironment

from pytest_siren.attacks.template_budget import Budget, check_size, size_of
from pytest_siren.attacks.template_sizes import (
    check_filter,
    check_format,
    check_method,
    check_percent,
    check_power,
    check_product,
)

BUDGET = "budget of this rendering"
"""The variable that holds it. No template can name it: it is no identifier."""
_COUNTED = "counted items"
_CHARGED = "charged value"
_JOINED = "joined texts"


class TemplateSandbox(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox, which bounds what a template may see and do, with bounds on sizes too.

    Every operation on values of any size is charged to the ``Budget`` of the rendering, and what
    would be huge is refused before it is made. The same template and values always give the same
    text, or the same refusal.
    """

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            undefined=StrictUndefined,
            keep_trailing_newline=True,
            # Jinja2 would carry out at once, without a budget, what has constants only.
            optimized=False,
            finalize=_output,
        )
        del self.filters["random"]
        del self.globals["lipsum"]
        self.filters = {name: _bounded(name, call) for name, call in self.filters.items()}
        self.filters |= {_COUNTED: _counted, _CHARGED: _charged, _JOINED: _joined}
        tests: dict[str, Any] = self.tests
        self.tests = {name: _charging(call) for name, call in tests.items()}

    def bounded(self, tree: nodes.Template) -> nodes.Template:
        """Return ``tree`` with loops, output and comparisons charged; it is changed in place."""
        for loop in tree.find_all(nodes.For):
            loop.iter = _filter(loop.iter, _COUNTED)
        for compare in tree.find_all(nodes.Compare):
            compare.expr = _filter(compare.expr, _CHARGED)
            for operand in compare.ops:
                operand.expr = _filter(operand.expr, _CHARGED)
        for output in tree.find_all(nodes.Output):
            output.nodes = [_as_value(node) for node in output.nodes]
        _replaced(tree)
        return tree

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Refuse operations whose result would be huge before they are carried out."""
        if operator == "*":
            check_product(left, right)
        elif operator == "**":
            check_power(left, right)
        elif operator == "%" and isinstance(left, str | bytes):
            check_percent(left, right)
        elif operator == "+" and all(isinstance(one, str | bytes) for one in (left, right)):
            check_size(len(left) + len(right))
        budget = _budget(context)
        budget.call()
        result = super().call_binop(context, operator, left, right)
        return result if type(result) in (int, float) else budget.value(result)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Refuse calls such as ``goal.ljust(1000000000)``."""
        budget = _budget(__context)
        budget.call()
        name = getattr(__obj, "__name__", "")
        if name not in ("format", "format_map", "bounded_range"):
            _check_numbers(args, kwargs)
        args = tuple(_taken(budget, value) for value in args)
        kwargs = {key: _taken(budget, value) for key, value in kwargs.items()}
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str | bytes):
            budget.charge(len(owner))
            check_method(owner, name, args)
        result = super().call(__context, __obj, *args, **kwargs)
        return result if isinstance(result, range) else budget.value(result)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Refuse formats with a huge width, or with one that comes from a value."""
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None
        check_format(value.__self__)
        fields = value.__self__.count("{")

        @functools.wraps(wrapped)
        def formatted(*args: Any, **kwargs: Any) -> str:
            largest = max((size_of(one) for one in (*args, *kwargs.values())), default=0)
            check_size(fields * largest)
            return wrapped(*args, **kwargs)

        return formatted


def counted_range() -> Callable[..., range]:
    """Return a ``range`` that gives at most ``MAX_RANGE`` numbers in all, over nested loops too."""
    left = MAX_RANGE

    def bounded_range(*args: int) -> range:
        nonlocal left
        numbers = range(*args)
        left -= len(numbers)
        if left < 0:
            raise OverflowError(f"the ranges of the template exceed {MAX_RANGE} numbers in all")
        return numbers

    return bounded_range


def _filter(node: Any, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _as_value(node: nodes.Expr) -> nodes.Expr:
    """Return text of the template as a value, which is charged when it is put out."""
    if isinstance(node, nodes.TemplateData):
        return nodes.Const(node.data, lineno=node.lineno)
    return node


def _replaced(node: Any) -> Any:
    """Return ``node`` with ``~`` and slices, at any depth, in forms that are charged."""
    for name, value in node.iter_fields():
        if isinstance(value, list):
            setattr(node, name, [_replaced(one) if _is_node(one) else one for one in value])
        elif _is_node(value):
            setattr(node, name, _replaced(value))
    if isinstance(node, nodes.Concat):
        return _filter(nodes.List(node.nodes, lineno=node.lineno), _JOINED)
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
        return _filter(node, _CHARGED)
    return node


def _is_node(value: Any) -> bool:
    return isinstance(value, nodes.Node)


def _budget(context: Context) -> Budget:
    budget: Budget = context.parent[BUDGET]
    return budget


@pass_context
def _output(context: Context, value: Any) -> Any:
    return _written(_budget(context), value)


@pass_context
def _counted(context: Context, value: Any) -> Any:
    return _budget(context).counted(value)


@pass_context
def _charged(context: Context, value: Any) -> Any:
    return value if type(value) in (int, float) else _budget(context).value(value)


@pass_context
def _joined(context: Context, values: list[Any]) -> str:
    budget = _budget(context)
    texts = [str(_written(budget, value)) for value in values]
    check_size(sum(map(len, texts)))
    return "".join(texts)


def _written(budget: Budget, value: Any) -> Any:
    """Return ``value``, of which the text is about to be made."""
    budget.call()
    # The text of an iterator is short: it names its type.
    return value if isinstance(value, Iterator) else budget.value(value)


def _taken(budget: Budget, value: Any) -> Any:
    """Return an argument; what only an iterator could tell the size of is read first."""
    if isinstance(value, Iterator):
        value = list(budget.counted(value))
    return value if isinstance(value, range) else budget.value(value)


def _bounded(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    passed = getattr(call, "jinja_pass_arg", None)
    own = _OWN.get(passed.name if passed is not None else "", None)

    @pass_context
    @functools.wraps(call)
    def bounded(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        budget = _budget(context)
        budget.call()
        _check_numbers(args, kwargs)
        value = _taken(budget, value)
        for other in (*args, *kwargs.values()):
            budget.value(other)
        check_filter(name, value, args, kwargs)
        before = () if own is None else (own(context),)
        result = call(*before, value, *args, **kwargs)
        return result if type(result) in (int, float, bool) else budget.value(result)

    # ``wraps`` has copied what the filter itself is passed.
    return pass_context(bounded)


_OWN: dict[str, Callable[[Context], Any]] = {
    "context": lambda context: context,
    "eval_context": lambda context: context.eval_ctx,
    "environment": lambda context: context.environment,
}


def _charging(call: Callable[..., Any]) -> Callable[..., Any]:
    passed = getattr(call, "jinja_pass_arg", None)
    own = _OWN.get(passed.name if passed is not None else "", None)

    @functools.wraps(call)
    def charging(context: Context, *args: Any, **kwargs: Any) -> Any:
        budget = _budget(context)
        budget.call()
        for value in (*args, *kwargs.values()):
            if isinstance(value, str | bytes | list | tuple | dict):
                budget.value(value)
        before = () if own is None else (own(context),)
        return call(*before, *args, **kwargs)

    return pass_context(charging)


def _check_numbers(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    for value in (*args, *kwargs.values()):
        if isinstance(value, int):
            check_size(value)
