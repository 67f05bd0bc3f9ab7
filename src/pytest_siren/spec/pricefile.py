"""Reads a user's own prices of models."""

from __future__ import annotations

from pathlib import Path

from pydantic import RootModel, ValidationError

from pytest_siren.evaluation.accounts import Price, Prices
from pytest_siren.spec.errors import SpecError, problems_of
from pytest_siren.yamlpos.reader import read_yaml


class PriceFile(RootModel[dict[str, Price]]):
    """A mapping of names of models, or patterns, to prices."""


def read_prices(path: Path, shown: Path) -> Prices:
    """Return genai-prices with the table in the YAML file ``path`` on top.

    ``shown`` is the path in messages. Raises ``SpecError`` with every problem, each with its line
    and key.
    """
    root, problems = read_yaml(path, shown)
    table: dict[str, Price] = {}
    if root is not None:
        data = root.plain()
        try:
            table = PriceFile.model_validate(data).root
        except ValidationError as error:
            problems += problems_of(error, PriceFile, data, root)
    if problems:
        raise SpecError(problems)
    return Prices(table)
