"""Secrets of an earlier command line, which no record holds: they have to be given again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_siren.jobs.secret_names import REDACTED
from pytest_siren.session.invocation import Invocation


def given_again(before: Invocation, given: Invocation, how: str) -> Invocation:
    """Return ``before`` with each ``--set`` whose value was withheld as ``given`` has it.

    Raises ``pytest.UsageError`` when it is not given.
    """
    now = {_key(one): one for one in given.set}
    missing = [one for one in before.set if REDACTED in one and _key(one) not in now]
    if missing:
        lacks = " ".join(f"--set {_key(one)}=VALUE" for one in missing)
        raise pytest.UsageError(
            f"{how}: this was started with --set {missing[0]}, and secrets are not recorded: "
            f"give {lacks} again (with ${{env:NAME}} in the eval file instead, there is no need to)"
        )
    return replace(
        before, set=tuple(now[_key(one)] if REDACTED in one else one for one in before.set)
    )


def _key(override: str) -> str:
    return override.partition("=")[0]
