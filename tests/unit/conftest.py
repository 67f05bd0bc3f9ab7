from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from pytest_siren.session.execution.event_loop import Lull


@pytest.fixture
def lull() -> Lull:
    return Lull()


@pytest.fixture
def loop(lull: Lull) -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.SelectorEventLoop(lull)
    yield loop
    loop.close()
