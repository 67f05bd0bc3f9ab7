from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from pytest_siren.session.execution.event_loop import Lull


@pytest.fixture
def lull() -> Lull:
    return Lull()


@pytest.fixture
def loop(lull: Lull) -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.SelectorEventLoop(lull)
    yield loop
    loop.close()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with one certificate."""
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    trustme.CA().cert_pem.write_to_path(path)
    return path


@pytest.fixture
def few_certificates(authority: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of many clients: each would take 20 ms to read what the machine trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
