"""What the options of cost mean, and what they refuse."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_siren.session.config.option_groups import max_cost, prices


@dataclass
class Given:
    """The part of pytest's config that the options are read from."""

    rootpath: Path = Path("/root")
    options: dict[str, Any] = field(default_factory=dict)
    ini: dict[str, Any] = field(default_factory=dict)
    folder: Path = Path("/root/sub")

    @property
    def invocation_params(self) -> Any:
        return SimpleNamespace(dir=self.folder)

    def getoption(self, name: str) -> Any:
        return self.options.get(name)

    def getini(self, name: str) -> Any:
        return self.ini.get(name, "")


def given(**fields: Any) -> Any:
    return Given(**fields)


def test_the_limit_is_kept_as_it_was_written() -> None:
    assert max_cost(given()) is None
    assert str(max_cost(given(options={"siren_max_cost": "3.00"}))) == "3.00"
    both = given(options={"siren_max_cost": "3"}, ini={"siren_max_cost": "5"})
    assert max_cost(both) == 3
    assert max_cost(given(ini={"siren_max_cost": "0.5"})) == Decimal("0.5")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("much", "must be a number of US dollars, not 'much'"),
        ("0", "must be more than 0 US dollars, not 0"),
        ("-1", "must be more than 0 US dollars, not -1"),
        ("nan", "must be more than 0 US dollars, not nan"),
        ("inf", "must be more than 0 US dollars, not inf"),
    ],
)
def test_a_limit_that_is_no_amount_is_refused(text: str, message: str) -> None:
    with pytest.raises(pytest.UsageError, match=f"^--siren-max-cost {message}$"):
        max_cost(given(options={"siren_max_cost": text}))
    with pytest.raises(pytest.UsageError, match=f"^siren_max_cost {message}$"):
        max_cost(given(ini={"siren_max_cost": text}))


def test_the_file_of_prices_is_found_from_where_its_name_was_given(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "here.yaml").write_text("a:x: {input_mtok: 1, output_mtok: 1}")
    (tmp_path / "sub" / "here.yaml").write_text("a:y: {input_mtok: 1, output_mtok: 1}")
    places: dict[str, Any] = {"rootpath": tmp_path, "folder": tmp_path / "sub"}
    by_option = prices(given(**places, options={"siren_prices": "here.yaml"}))
    assert (by_option.known("a:x"), by_option.known("a:y")) == (False, True)
    by_key = prices(given(**places, ini={"siren_prices": "here.yaml"}))
    assert (by_key.known("a:x"), by_key.known("a:y")) == (True, False)
    assert prices(given()).known("openai:gpt-5")


def test_a_file_that_is_wrong_is_a_usage_error_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("a:x:\n  input_mtok: 1\n  output_mtok: x\n")
    wrong = given(rootpath=tmp_path, folder=tmp_path, options={"siren_prices": "p.yaml"})
    with pytest.raises(pytest.UsageError) as raised:
        prices(wrong)
    assert str(raised.value) == (
        "p.yaml:3: wrong type for ['a:x'].output_mtok: 'x' is not a number"
    )
