"""Option names that give way to those of other plugins. Loaded by every pytest session."""

from __future__ import annotations

import argparse
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

PREFIX = "--siren-"
_FLAGS = ("store_true", "store_false")


@dataclass(frozen=True)
class Declared:
    """An option of the plugin, before it is known which names are free."""

    name: str
    attrs: dict[str, Any]

    @property
    def long_name(self) -> str:
        """The name that is the plugin's own in every project."""
        return self.name if self.name.startswith(PREFIX) else PREFIX + self.name[2:]

    @property
    def takes_value(self) -> bool:
        return self.attrs.get("action") not in _FLAGS


@dataclass(eq=False)
class OptionNames:
    """Adds the plugin's options once every plugin and initial conftest has added its own.

    A project that has a ``--model`` of its own keeps it, whichever is loaded first. The plugin's
    option is then ``--siren-model``, a name that works in all other projects as well.
    """

    parser: pytest.Parser
    group: str
    title: str
    taken: list[str] = field(default_factory=list)
    """Names that belong to somebody else."""
    _declared: list[Declared] = field(default_factory=list)
    _added: bool = False

    def addoption(self, name: str, **attrs: Any) -> None:
        """Declare an option. Its value is kept under its long name, which nobody shares."""
        option = Declared(name, attrs)
        attrs.setdefault("dest", option.long_name[2:].replace("-", "_"))
        self._declared.append(option)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_load_initial_conftests(
        self, early_config: pytest.Config, parser: pytest.Parser, args: list[str]
    ) -> Generator[None, Any, Any]:
        """Add the options after the initial conftests have added theirs."""
        without = list(self._without_values(args))
        if len(without) < len(args):
            # pytest takes the values of options that are not added yet for paths.
            early_config.known_args_namespace.file_or_dir = parser.parse_known_args(
                without, namespace=argparse.Namespace(**vars(early_config.option))
            ).file_or_dir
        try:
            return (yield)
        finally:
            self._add()

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self) -> None:
        """Free the short names, for a conftest that is found later may define the same."""
        if not self._added:
            raise pytest.UsageError(
                "pytest-siren is loaded by a conftest.py, too late for its options: load it with "
                "-p pytest_siren.plugin, or let pytest find it as an installed plugin"
            )
        # The command line has been read, and argparse has no public way to remove an option.
        actions = getattr(getattr(self.parser, "optparser", None), "_option_string_actions", {})
        for option in self._declared:
            if option.name not in self.taken and not option.name.startswith(PREFIX):
                actions.pop(option.name, None)

    def pytest_report_header(self) -> list[str]:
        """Name the options that go by another name in this project."""
        return [
            f"siren: {name} is not pytest-siren's in this project: use {PREFIX}{name[2:]}"
            for name in self.taken
        ]

    def _add(self) -> None:
        known = self._known()
        group = self.parser.getgroup(self.group, self.title)
        for option in self._declared:
            if option.name in known:
                self.taken.append(option.name)
                group.addoption(option.long_name, **option.attrs)
                continue
            group.addoption(option.name, **option.attrs)
            if option.long_name != option.name:
                hidden = {**option.attrs, "help": argparse.SUPPRESS}
                group.addoption(option.long_name, **hidden)
        self._added = True

    def _known(self) -> set[str]:
        """Return the names that are taken. pytest has no public way to ask."""
        return {
            name
            for group in self.parser._groups
            for option in group.options
            for name in option.names()
        }

    def _without_values(self, args: Sequence[str]) -> Iterator[str]:
        """Yield ``args`` without the plugin's options that are given apart from their values."""
        valued = {
            name
            for option in self._declared
            if option.takes_value
            for name in (option.name, option.long_name)
        } - self._known()
        remaining = iter(args)
        for arg in remaining:
            if arg in valued:
                next(remaining, None)
            else:
                yield arg
