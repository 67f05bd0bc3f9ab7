"""Placeholders of injection vectors, and what is filled into them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

_MOST = 20_000_000
"""Characters that one prompt or result may have filled in."""


class TooMuchFilledError(ValueError):
    """A text repeats its placeholders, perhaps at a model's wish, until nothing could hold it."""


def placeholder(vector: str) -> str:
    """Return what stands in a text where ``vector`` is to be filled in."""
    return f"{{{vector}}}"


@dataclass(frozen=True)
class Placeholders:
    """The injection vectors of one task, each written ``{vector}`` where an attacker can write."""

    defaults: Mapping[str, str]
    """Injection vector to the text that stands there when nobody attacks."""

    def fill(self, value: Any, contents: Mapping[str, str]) -> tuple[Any, frozenset[str]]:
        """Return the JSON ``value`` filled in, and which of ``contents`` it now shows.

        Every string in it, keys of objects excepted, is gone through once: what was filled in is
        not looked at again, whatever it holds. Raises ``TooMuchFilledError``.
        """
        shown: set[str] = set()
        filled = (
            self._fill(value, _Contents(self.defaults, contents), shown) if self.defaults else value
        )
        return filled, frozenset(shown)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(re.escape(placeholder(vector)) for vector in self.defaults))

    def _fill(self, value: Any, contents: _Contents, shown: set[str]) -> Any:
        if isinstance(value, str):
            return self._pattern.sub(lambda found: contents.of(found[0][1:-1], shown), value)
        if isinstance(value, dict):
            return {key: self._fill(item, contents, shown) for key, item in value.items()}
        if isinstance(value, list):
            return [self._fill(item, contents, shown) for item in value]
        return value


@dataclass
class _Contents:
    """What is filled in, counted."""

    defaults: Mapping[str, str]
    contents: Mapping[str, str]
    length: int = 0

    def of(self, vector: str, shown: set[str]) -> str:
        if vector in self.contents:
            shown.add(vector)
            content = self.contents[vector]
        else:
            content = self.defaults[vector]
        self.length += len(content)
        if self.length > _MOST:
            raise TooMuchFilledError(
                f"the placeholders of one text were filled with more than {_MOST:,} characters"
            )
        return content
