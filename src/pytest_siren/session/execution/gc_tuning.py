"""The garbage collector, where it would look again and again at much that stays."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_YOUNG = 20_000
"""Objects made and not freed after which the collector looks at the young ones; Python's own
number is 700."""


@contextmanager
def no_collections() -> Iterator[None]:
    """Keep the garbage collector from looking at what is being made, again and again.

    To collect 100,000 runs takes 9 s of CPU instead of 18 s, to import pydantic-ai and OpenAI's
    client 1.1 s instead of 1.25 s.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def set_aside() -> Iterator[None]:
    """Keep the garbage collector from all that there is now, and let it look at the rest seldom.

    Runs leave little garbage that it alone can free; records and reports that stay make it look.
    What is set aside stays so: at the end pytest has the collector look at everything ten times,
    which takes more than a second where AgentDojo is loaded. ``give_back`` ends it.
    """
    threshold = gc.get_threshold()
    if not gc.get_freeze_count():
        gc.freeze()
    if threshold[0]:
        gc.set_threshold(max(_YOUNG, threshold[0]), *threshold[1:])
    try:
        yield
    finally:
        gc.set_threshold(*threshold)


def give_back() -> None:
    """Show the garbage collector again what an earlier session of this process set aside."""
    if gc.get_freeze_count():
        gc.unfreeze()
