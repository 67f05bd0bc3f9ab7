"""How a run's answer ended. Standard library only, for readers of records that execute nothing."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Finish(StrEnum):
    """How the answer that ended a run ended itself."""

    COMPLETE = "complete"
    LENGTH = "length"
    """Cut off by a limit of tokens, or by the end of the model's context."""
    FILTERED = "filtered"
    """The provider withheld the answer, or the rest of it."""
    REFUSED = "refused"
    """The model refused, and the provider marks the answer as a refusal."""
    EMPTY = "empty"
    """No text and no tool call."""
    FAILED = "failed"
    """The provider reports that the model failed while it answered."""
    INCOMPLETE = "incomplete"
    """The answer is not there yet or was given up, or its reason to end is one nobody knows."""


UNFINISHED = (Finish.LENGTH, Finish.FILTERED, Finish.EMPTY, Finish.FAILED, Finish.INCOMPLETE)
"""From such an answer nobody can conclude what the model would not have done."""

SCORED_BY_DEFAULT = frozenset({Finish.COMPLETE, Finish.REFUSED})

WORDS: Mapping[str, str] = MappingProxyType(
    {
        Finish.LENGTH: "cut off (length)",
        Finish.FILTERED: "filtered",
        Finish.REFUSED: "refused",
        Finish.EMPTY: "empty",
        Finish.FAILED: "failed",
        Finish.INCOMPLETE: "incomplete",
    }
)
"""What tables call the ways to end that a reader must know of, in their order."""

_REASONS = {
    Finish.LENGTH: "the answer was cut off (length)",
    Finish.FILTERED: "the answer was filtered",
    Finish.REFUSED: "the refusal has no words",
    Finish.EMPTY: "the answer is empty",
    Finish.FAILED: "the answer failed",
    Finish.INCOMPLETE: "the answer is incomplete",
}


def spoken(counts: Mapping[str, int]) -> list[str]:
    """Return what tables say of ``counts``, runs by how their answers ended, but for whole ones."""
    return [f"{counts[name]:,} {words}" for name, words in WORDS.items() if counts.get(name)]


def scored(changes: Mapping[str, str]) -> frozenset[Finish]:
    """Return the ways to end that are scored, with ``changes`` of what an eval file says."""
    kept = {finish for finish in SCORED_BY_DEFAULT if changes.get(finish) != "unknown"}
    return frozenset(kept | {Finish(name) for name, what in changes.items() if what == "score"})


def why_unknown(finish: Finish, has_words: bool, scored: frozenset[Finish]) -> str | None:
    """Return why an answer that ended so proves nothing; ``None`` if it is scored.

    A refusal without words is an empty answer, too.
    """
    silent = finish is Finish.REFUSED and not has_words and Finish.EMPTY not in scored
    if finish in scored and not silent:
        return None
    if finish is Finish.REFUSED and has_words:
        return "the answer was refused"
    return _REASONS.get(finish, f"the answer is {finish}")
