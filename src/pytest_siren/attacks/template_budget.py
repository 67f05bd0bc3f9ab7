"""What the rendering of an attack template may cost: characters, and steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Any

LONGEST = 200_000
"""Characters that a rendered template, or one value made in it, may have."""
MOST_STEPS = 5_000_000
"""Steps of one rendering: characters and items that its operations read and write. About 1 s."""
_ITERATION = 10
_CALL = 40
"""Steps that an iteration of a loop, and an operation, cost beside what they read and write."""


class TemplateSizeError(ValueError):
    """A template made, or was about to make, more than it may."""

    def __init__(self) -> None:
        super().__init__(f"the template made more than {LONGEST:,} characters")


class TemplateStepsError(ValueError):
    """A template works for too long."""

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
