"""What a library raises while it reads an answer that it does not understand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError
from pydantic_ai.exceptions import (
    ContentFilterError,
    ModelAPIError,
    UnexpectedModelBehavior,
    UserError,
)

from pytest_siren.models.wire.errors import AnswerError
from pytest_siren.models.wire.received import Received

_NEVER = (ModelAPIError, ContentFilterError, UserError)
"""These have words of their own."""
_ALWAYS = (ValidationError, json.JSONDecodeError, IndexError)
"""Only an answer makes a library raise these, whether or not the transport has seen it."""
_AFTER_ARRIVAL = (AttributeError, LookupError, TypeError, ValueError, AssertionError)


@contextmanager
def reading(received: Received) -> Iterator[None]:
    """Raise ``AnswerError`` in place of the errors of a library that cannot read an answer."""
    try:
        yield
    except _NEVER:
        raise
    except UnexpectedModelBehavior as error:
        if not isinstance(error.__cause__, ValidationError) and "Invalid response" not in str(
            error
        ):
            raise
        raise _unreadable(error.__cause__ or error, received) from error
    except (*_ALWAYS, *_AFTER_ARRIVAL) as error:
        if not (received.content is not None or isinstance(error, _ALWAYS)):
            raise
        raise _unreadable(error, received) from error


def _unreadable(error: BaseException, received: Received) -> AnswerError:
    text = f": {received.excerpt}" if received.content else ""
    return AnswerError(f"the provider's answer is not what its API promises ({_why(error)}){text}")


def _why(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        places = (".".join(map(str, problem["loc"])) for problem in error.errors()[:3])
        return f"at {', '.join(dict.fromkeys(places))}"
    return type(error).__name__
