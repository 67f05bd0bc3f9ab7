from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.unit.growth import grows_linearly


@pytest.mark.parametrize(
    ("work", "linear"),
    [(list, True), (re.compile("a[^c]").findall, True), (re.compile("a[^c]*c").findall, False)],
)
def test_quadratic_work_is_found(work: Callable[[str], object], linear: bool) -> None:
    assert grows_linearly(work, "ab", 8_000) is linear
