"""Exceptions of the code that a run calls: which are the session's own, and how each reads."""

from __future__ import annotations

import asyncio

_LONGEST = 2_000
"""Characters of an exception's text that are kept."""
_FOREIGN_CANCELLATION = "raised by the code that was called; the session was not stopped"


class UserInterrupt(KeyboardInterrupt):
    """Ctrl-C of the person at the keyboard.

    A plain ``KeyboardInterrupt`` from a tool, an evaluator or any other part is an error of its
    run, as every exception is; this one ends the session.
    """


def message_of(error: BaseException) -> str:
    """Return the text of ``error``, which is bounded; never raises."""
    try:
        text = str(error)
    except UserInterrupt:
        raise
    except BaseException as broken:  # noqa: BLE001 - somebody's own __str__
        text = f"<its text cannot be read: {type(broken).__name__}>"
    if not text and isinstance(error, asyncio.CancelledError):
        return _FOREIGN_CANCELLATION
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def one_line(error: BaseException) -> str:
    """Return the type and the text of ``error`` on one line."""
    text = " ".join(message_of(error).split())
    name = type(error).__name__
    return f"{name}: {text}" if text else name
