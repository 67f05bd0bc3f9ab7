"""Limits the rendering of attack templates, in characters and steps."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Set, Sized
from string import Formatter
from types import MappingProxyType
from typing import Any

from jinja2 import StrictUndefined, nodes, pass_context
from jinja2.runtime import Context
from jinja2.sandbox import MAX_RANGE, ImmutableSandboxedEnvironment

LONGEST = 200_000
"""Largest length in characters of a rendered template, and of one value in it."""
MOST_STEPS = 5_000_000
"""Steps of one rendering: characters and items that its operations read and write. About 1 s."""
_ITERATION = 10
_CALL = 40
"""Steps of an iteration of a loop, and of an operation, beside those for its data."""


class TemplateSizeError(ValueError):
    """A template exceeds the limit of size."""

    def __init__(self) -> None:
        super().__init__(f"the template made more than {LONGEST:,} characters")


class TemplateStepsError(ValueError):
    """A template exceeds the limit of steps."""

    def __init__(self) -> None:
        super().__init__(f"the template took more than {MOST_STEPS:,} steps")


class Budget:
    """Counts the steps of one rendering. The count is the same on every machine."""

    def __init__(self) -> None:
        self._left = MOST_STEPS

    def charge(self, steps: int) -> None:
        """Raise ``TemplateStepsError`` when no steps are left."""
        self._left -= steps
        if self._left < 0:
            raise TemplateStepsError

    def call(self) -> None:
        """Charge for one operation."""
        self.charge(_CALL)

    def value(self, value: Any) -> Any:
        """Return ``value``, charged by its size; an iterator charges for each of its items."""
        if isinstance(value, Iterator):
            return self.counted(value)
        self.charge(size_of(value))
        return value

    def counted(self, items: Any) -> Iterator[Any]:
        """Yield ``items`` and charge for each."""
        for item in items:
            self.charge(_ITERATION)
            yield item


def check_size(size: int) -> None:
    """Raise ``TemplateSizeError`` for a size above ``LONGEST``."""
    if size > LONGEST:
        raise TemplateSizeError


def size_of(value: Any) -> int:
    """Return about how many characters ``value`` takes when it is written out.

    What a container holds more than once counts each time. Raises ``TemplateSizeError`` above
    ``LONGEST``, after as much work at most.
    """
    total = 0
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str | bytes):
            total += len(one)
        elif isinstance(one, int):
            total += one.bit_length() // 4
        elif isinstance(one, Mapping):
            check_size(total + len(one))
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple | Set):
            check_size(total + len(one))
            waiting += one
        total += 1
        check_size(total - 1)
        if len(waiting) > 2 * LONGEST:
            raise TemplateSizeError
    return total


_PERCENT = re.compile(r"%(?:\(([^)]*)\))?[-+ #0]*(\*|\d+)?(?:\.(\*|\d+))?[hlL]?[a-zA-Z%]")
_SPEC_NUMBER = re.compile(r"\d+")
_DEEPEST_INDENT = 16


def check_product(value: Any, times: Any) -> None:
    """Check ``value * times``. Raises ``TemplateSizeError``."""
    for one, other in ((value, times), (times, value)):
        if isinstance(one, str | bytes | list | tuple) and isinstance(other, int):
            check_size(len(one) * max(other, 0))
    if isinstance(value, int) and isinstance(times, int):
        check_size(value.bit_length() + times.bit_length())


def check_power(base: Any, exponent: Any) -> None:
    """Check ``base ** exponent``. Raises ``TemplateSizeError``."""
    if isinstance(base, int) and isinstance(exponent, int):
        check_size(base.bit_length() * max(exponent, 0))


def check_percent(text: str | bytes, values: Any) -> None:
    """Check ``text % values``. Raises ``TemplateSizeError``."""
    shown = text.decode("latin-1") if isinstance(text, bytes) else text
    total = len(shown) + (0 if isinstance(values, Mapping) else size_of(values))
    known: dict[str, int] = {}
    for name, width, precision in _PERCENT.findall(shown):
        if "*" in (width, precision):
            raise TemplateSizeError
        total += _number(width) + _number(precision)
        if isinstance(values, Mapping) and name in values:
            if name not in known:
                known[name] = size_of(values[name])
            total += known[name]
        check_size(total)


def check_spec(spec: str) -> int:
    """Return the width that a format such as ``>20`` may give. Raises ``TemplateSizeError``."""
    width = sum(_number(found) for found in _SPEC_NUMBER.findall(spec))
    check_size(width)
    return width


def check_format(text: str) -> None:
    """Check the formats in ``text`` before ``str.format`` uses it. Raises ``TemplateSizeError``."""
    total = len(text)
    for _, _, spec, _ in Formatter().parse(text):
        if spec and "{" in spec:  # a width that comes from a value
            raise TemplateSizeError
        total += check_spec(spec or "")
        check_size(total)


def check_method(text: str | bytes, name: str, args: tuple[Any, ...]) -> None:
    """Check the result of a method of ``text``. Raises ``TemplateSizeError``."""
    check = _METHODS.get(name)
    if check is not None and args:
        check(text, *args)


def check_filter(name: str, value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Check the result of the filter ``name``. Raises ``TemplateSizeError``."""
    given = [value, *args, *kwargs.values()]
    if name == "replace" and len(given) >= 3:
        old = kwargs.get("old", args[0] if args else "")
        new = kwargs.get("new", args[-1] if len(args) == 1 else (args[1] if args else ""))
        _replace(str(value), str(old), str(new))
    elif name == "join" and isinstance(value, Sized):
        check_size(size_of(value) + len(value) * sum(map(size_of, given[1:])))
    elif name == "indent":
        widths = (one if isinstance(one, int) else len(str(one)) for one in given[1:])
        check_size(len(str(value)) + (str(value).count("\n") + 1) * max(widths, default=4))
    elif name == "wordwrap":
        check_size(len(str(value)) * max([1, *(len(a) for a in given[1:] if isinstance(a, str))]))
    elif name == "tojson" and any(isinstance(a, int) and a > _DEEPEST_INDENT for a in given[1:]):
        raise TemplateSizeError
    elif name == "sum" and any(isinstance(one, list | tuple) for one in given[1:]):
        check_size(len(value) * size_of(value) if isinstance(value, list | tuple) else 0)
    elif name == "format":
        check_percent(str(value), kwargs or args)


def _replace(text: Any, old: Any, new: Any, *_: Any) -> None:
    check_size(len(text) + text.count(old) * len(new))


def _join(text: Any, items: Any) -> None:
    check_size(size_of(items) + len(text) * len(items))


def _expandtabs(text: Any, width: int = 8) -> None:
    check_size(len(text) + text.count(b"\t" if isinstance(text, bytes) else "\t") * width)


def _translate(text: Any, table: Any, *_: Any) -> None:
    values = table.values() if isinstance(table, Mapping) else ()
    longest = max((len(value) for value in values if isinstance(value, str)), default=1)
    check_size(len(text) * max(longest, 1))


_METHODS: Mapping[str, Callable[..., None]] = MappingProxyType(
    {"replace": _replace, "join": _join, "expandtabs": _expandtabs, "translate": _translate}
)


def _number(text: str) -> int:
    """Return a width; one of very many digits is too large in any case."""
    if len(text) > 9:
        raise TemplateSizeError
    return int(text or 0)


BUDGET = "budget of this rendering"
"""The variable that holds the budget. No template can name it: it is not an identifier."""
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
            # Jinja2's optimiser would evaluate constant expressions without a budget.
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
    """Return text of the template as a value, which is charged on output."""
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
    """Charge the conversion of ``value`` to text, and return ``value``."""
    budget.call()
    # The text of an iterator is short: only its repr.
    return value if isinstance(value, Iterator) else budget.value(value)


def _taken(budget: Budget, value: Any) -> Any:
    """Return an argument; iterators are read into lists first, so that their size is known."""
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

    # ``wraps`` copied the marker of what the filter itself is passed.
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
