"""How large a value would become that a template is about to make."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sized
from string import Formatter
from types import MappingProxyType
from typing import Any

from pytest_siren.attacks.template_budget import TemplateSizeError, check_size, size_of

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
