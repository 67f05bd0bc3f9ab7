"""The options of prices and of the session's limit of cost. Standard library only until used."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_siren.text.paths import shown

if TYPE_CHECKING:
    from pytest_siren.evaluation.prices import Prices
    from pytest_siren.session.config.option_names import OptionNames


def add_cost_options(parser: pytest.Parser, group: OptionNames) -> None:
    """Add the options and ini keys."""
    group.addoption(
        "--siren-max-cost",
        default=None,
        metavar="USD",
        help="start no new runs once the session has spent so many US dollars",
    )
    group.addoption(
        "--siren-prices",
        default=None,
        metavar="FILE",
        help="YAML file with prices of models, on top of those of genai-prices",
    )
    parser.addini("siren_max_cost", "as --siren-max-cost")
    parser.addini("siren_prices", "as --siren-prices, relative to the root folder")


def max_cost(config: pytest.Config) -> Decimal | None:
    """Return the session's limit in US dollars. Raises ``pytest.UsageError``."""
    for where, text in (
        ("--siren-max-cost", config.getoption("siren_max_cost")),
        ("siren_max_cost", config.getini("siren_max_cost")),
    ):
        if text:
            return _amount(where, text)
    return None


def prices(config: pytest.Config) -> Prices:
    """Return the prices of the session. Raises ``pytest.UsageError`` for a file that is wrong."""
    from pytest_siren.evaluation.prices import Prices

    path = _prices_file(config)
    if path is None:
        return Prices()
    from pytest_siren.spec.errors import SpecError
    from pytest_siren.spec.pricefile import read_prices

    try:
        return read_prices(path, shown(path, config.rootpath))
    except SpecError as error:
        raise pytest.UsageError(str(error)) from None


def _prices_file(config: pytest.Config) -> Path | None:
    if given := config.getoption("siren_prices"):
        return Path(config.invocation_params.dir / given)
    given = config.getini("siren_prices")
    return Path(config.rootpath / given) if given else None


def _amount(where: str, text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise pytest.UsageError(f"{where} must be a number of US dollars, not {text!r}") from None
    if not (amount.is_finite() and amount > 0):
        raise pytest.UsageError(f"{where} must be more than 0 US dollars, not {text}")
    return amount
