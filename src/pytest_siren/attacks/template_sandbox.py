"""The sandbox that attack templates are rendered in: nothing unsafe, random or huge."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from string import Formatter
from typing import Any

from jinja2 import StrictUndefined
from jinja2.runtime import Context
from jinja2.sandbox import MAX_RANGE, ImmutableSandboxedEnvironment

LONGEST = 200_000
"""Characters that a rendered template, or one value made in it, may have."""

_WIDE_PERCENT = re.compile(r"%(?:\([^)]*\))?[-+ #0]*(?:\d{6,}|\*|\d*\.(?:\d{6,}|\*))")
_WIDE_SPEC = re.compile(r"\d{6,}|\{")


class TemplateSandbox(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox, which bounds what a template may see and do, with bounds on sizes too.

    The same template and values always give the same text.
    """

    intercepted_binops = frozenset({"*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(undefined=StrictUndefined, keep_trailing_newline=True)
        del self.filters["random"]
        del self.globals["lipsum"]
        self.filters = {name: _bounded(call) for name, call in self.filters.items()}

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Refuse operations whose result would be huge before they are carried out."""
        if operator == "*":
            for value, times in ((left, right), (right, left)):
                if isinstance(value, str | list | tuple) and isinstance(times, int):
                    check_size(len(value) * times)
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            check_size(left.bit_length() * right)
        elif operator == "%" and isinstance(left, str):
            _check_percent(left)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Refuse calls such as ``goal.ljust(1000000000)``."""
        if getattr(__obj, "__name__", "") not in ("format", "format_map", "bounded_range"):
            _check_numbers(args, kwargs)
        return super().call(__context, __obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Refuse formats with a huge width, or with one that comes from a value."""
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            for _, _, spec, _ in Formatter().parse(value.__self__):
                if spec and _WIDE_SPEC.search(spec):
                    raise OverflowError(f"the format {spec!r} may be too wide")
        return wrapped


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


def check_size(size: int) -> None:
    """Raise ``OverflowError`` for a size above ``LONGEST``."""
    if size > LONGEST:
        raise OverflowError(f"a value would be larger than {LONGEST}")


def _bounded(call: Callable[..., Any]) -> Callable[..., Any]:
    # The value that is filtered comes first, or second after what Jinja2 passes of its own accord.
    own = 2 if hasattr(call, "jinja_pass_arg") else 1

    @functools.wraps(call)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        _check_numbers(args[own:], kwargs)
        if call.__name__ == "do_format":
            _check_percent(str(args[0]))
        return call(*args, **kwargs)

    return bounded


def _check_numbers(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    for value in (*args, *kwargs.values()):
        if isinstance(value, int):
            check_size(value)


def _check_percent(text: str) -> None:
    if found := _WIDE_PERCENT.search(text):
        raise OverflowError(f"the format {found[0]!r} may be too wide")
