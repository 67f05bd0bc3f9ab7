"""What an attack may ask of an agent, and which agents can do it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from pytest_siren.evaluation.components import implements


class Support(StrEnum):
    """How an agent takes a run."""

    STEP = "step"
    """It stops at each request: an attack can go back and plant other contents there."""
    RESTART = "restart"
    """It takes a run in one step: an attack can plant contents before, and begin again."""
    BLACK_BOX = "black box"
    """As ``RESTART``, and what the agent does inside may remain unseen."""


@runtime_checkable
class DeclaresSupport(Protocol):
    """An agent that says how it takes a run.

    Another one counts as ``STEP`` if it has the methods ``tool_results`` and ``user_request``, with
    which requests are written anew, and as ``RESTART`` without.
    """

    supports: Support


@runtime_checkable
class DeclaresNeed(Protocol):
    """An attack that says what it needs of an agent.

    Another one needs ``STEP`` if it goes back to earlier states (``rewinds``), and works with all
    agents if not.
    """

    needs: Support


@runtime_checkable
class _WritesRequests(Protocol):
    tool_results: Any
    user_request: Any


def supported_by(agent: object) -> Support:
    """Return how ``agent`` takes a run."""
    if implements(agent, DeclaresSupport):
        return Support(agent.supports)
    return Support.STEP if implements(agent, _WritesRequests) else Support.RESTART


def needed_by(attack: object) -> Support:
    """Return the least that ``attack`` needs."""
    if implements(attack, DeclaresNeed):
        return Support(attack.needs)
    return Support.STEP if getattr(attack, "rewinds", False) else Support.BLACK_BOX


def refusal(attack: object, attack_name: str, agent: object, agent_name: str) -> str | None:
    """Return why ``attack`` cannot work with ``agent``, in one line; ``None`` where it can."""
    supports = supported_by(agent)
    if needed_by(attack) is not Support.STEP or supports is Support.STEP:
        return None
    return (
        f"the attack {attack_name!r} steps back inside a run, which the agent {agent_name!r} "
        f"(supports: {supports.value}) cannot: it takes a run in one step"
    )
