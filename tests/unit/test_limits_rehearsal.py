from __future__ import annotations

import asyncio

import pytest

from pytest_siren.models.limits import rehearsal
from pytest_siren.models.limits.rehearsal import rehearse
from tests.unit.limits_server import Answer, ask, bound, governed, serving


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody listens, so that whoever really asks gets an error."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "DEEPSEEK_API_KEY"):
        monkeypatch.setenv(name, "none")


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("openai-chat:gpt-4o-mini", True),
        ("openai:gpt-5", True),
        ("deepseek:deepseek-chat", True),
        ("anthropic:claude-sonnet-4-5", False),
        ("test", False),
    ],
)
def test_openai_s_answers_are_read_and_no_others(name: str, read: bool) -> None:
    if name.startswith("anthropic"):
        pytest.importorskip("anthropic")
    assert asyncio.run(rehearse(name)) is read


def test_an_answer_that_cannot_be_read_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "_CHAT", {"choices": 7})
    assert asyncio.run(rehearse("openai-chat:gpt-4o-mini")) is False


@pytest.mark.parametrize("latency", [0.0, 0.3])
def test_it_happens_once_while_the_first_answer_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, latency: float
) -> None:
    rehearsed: list[str] = []

    async def count(name: str) -> bool:
        rehearsed.append(name)
        return True

    monkeypatch.setattr("pytest_siren.models.api.rehearse", count)

    async def run() -> None:
        async with (
            serving(Answer(latency=latency)) as server,
            governed(server, monkeypatch) as source,
        ):
            await ask(await bound(source))
            # An answer that is there before it makes it needless, but harmless.
            assert len(rehearsed) == (1 if latency else 0)
            await ask(await bound(source))
            assert len(server.arrivals) == 2
        await asyncio.sleep(0.2)
        assert len(rehearsed) == (1 if latency else 0)

    asyncio.run(run())
