"""Counts, hints and lines, as every message has them."""

from __future__ import annotations

import pytest

from pytest_siren.text.words import counted, escaped, nearest, suggestion


@pytest.mark.parametrize(
    ("number", "nouns", "text"),
    [
        (0, ("run",), "0 runs"),
        (1, ("run",), "1 run"),
        (1234, ("run",), "1,234 runs"),
        (1, ("retry", "retries"), "1 retry"),
        (2, ("retry", "retries"), "2 retries"),
    ],
)
def test_counts_agree_with_their_nouns(number: int, nouns: tuple[str, ...], text: str) -> None:
    assert counted(number, *nouns) == text


def test_a_misspelled_name_gets_the_nearest_known_one_as_a_hint() -> None:
    assert nearest("atack", ["agent", "attack"]) == "attack"
    assert suggestion("atack", ["agent", "attack"]) == " (did you mean 'attack'?)"


def test_a_name_that_resembles_nothing_gets_no_hint() -> None:
    assert nearest("xyz", ["agent", "attack"]) is None
    assert suggestion("xyz", ["agent", "attack"]) == ""


def test_what_a_terminal_might_obey_is_escaped_on_one_line() -> None:
    assert escaped("red\x1b[31m\nand \u202eback") == "red\\x1b[31m and \\u202eback"
