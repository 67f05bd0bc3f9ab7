"""Placeholders of injection vectors, and what is filled into them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any


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
        not looked at again, whatever it holds.
        """
        shown: set[str] = set()
        filled = self._fill(value, contents, shown) if self.defaults else value
        return filled, frozenset(shown)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(re.escape(placeholder(vector)) for vector in self.defaults))

    def _fill(self, value: Any, contents: Mapping[str, str], shown: set[str]) -> Any:
        if isinstance(value, str):
            return self._pattern.sub(
                lambda found: self._content(found[0][1:-1], contents, shown), value
            )
        if isinstance(value, dict):
            return {key: self._fill(item, contents, shown) for key, item in value.items()}
        if isinstance(value, list):
            return [self._fill(item, contents, shown) for item in value]
        return value

    def _content(self, vector: str, contents: Mapping[str, str], shown: set[str]) -> str:
        if vector not in contents:
            return self.defaults[vector]
        shown.add(vector)
        return contents[vector]
