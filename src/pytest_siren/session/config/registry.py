"""The components of a session: those that its conftest.py files register, and installed ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_siren.evaluation.components import Registry

_REGISTRY = pytest.StashKey["Registry"]()


class RegistrationError(Exception):
    """A hook that registers components has raised; the message says what."""


def registry(config: pytest.Config) -> Registry:
    """Return the registry of this process, filled when it is first asked for.

    A conftest.py that pytest loads later adds its components then. Raises ``RegistrationError``.
    """
    from pytest_siren.evaluation.components import Registry
    from pytest_siren.evaluation.isolation import UserInterrupt, marked_interrupts, one_line

    if _REGISTRY not in config.stash:
        made = Registry()
        with marked_interrupts():
            try:
                config.hook.pytest_siren_components_register.call_historic(
                    kwargs={"registry": made}
                )
            except UserInterrupt:
                raise
            except BaseException as error:
                # pytest would take some for a folder that is skipped, or the end of the session.
                message = f"pytest_siren_components_register: {one_line(error)}"
                raise RegistrationError(message) from error
        config.stash[_REGISTRY] = made
    return config.stash[_REGISTRY]
