from __future__ import annotations

import asyncio
from contextlib import nullcontext

import httpx2
import pytest

from pytest_siren.models.transport import sequencing
from pytest_siren.models.transport.client import connections
from pytest_siren.models.transport.sequencing import ResponseGate, SequencedTransport
from tests.unit.limits_server import Answer, serving
from tests.unit.simulated_time import run_simulated


def test_an_answer_waits_until_the_one_before_has_led_to_a_request() -> None:
    async def run() -> None:
        gate = ResponseGate()
        order: list[int] = []

        async def answer(number: int) -> None:
            await gate.wait()
            order.append(number)

        tasks = [asyncio.create_task(answer(number)) for number in range(4)]
        await asyncio.sleep(0)
        assert order == [0]
        tasks[1].cancel()
        await asyncio.sleep(0)
        gate.open()
        await asyncio.sleep(0)
        assert order == [0, 2]
        gate.open()
        await asyncio.sleep(0)
        assert order == [0, 2, 3]
        gate.open()
        # Nobody waits any more, so the next does not either.
        last = asyncio.create_task(gate.wait())
        await asyncio.sleep(0)
        assert last.done()

    asyncio.run(run())


def test_answers_that_lead_to_nothing_hold_nobody_up_for_long() -> None:
    async def run() -> float:
        gate = ResponseGate()
        loop = asyncio.get_running_loop()
        started = loop.time()
        await asyncio.gather(*(gate.wait() for _ in range(50)))
        return loop.time() - started

    # One after the other they would take a second.
    assert run_simulated(run()) == pytest.approx(0.02)


def test_of_many_answers_at_once_each_leads_to_its_request_before_the_next_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each reader asks again at once, so that reading and asking must take turns."""
    # So long that a busy machine does not use it up between an answer and the next request.
    monkeypatch.setattr(sequencing, "_LONGEST_LOOK", 1.0)

    async def run() -> None:
        done: list[str] = []
        transport = SequencedTransport(connections())

        async def ask(client: httpx2.AsyncClient, url: str) -> None:
            for _ in range(2):
                async with transport.turn():
                    response = await client.post(url, json={})
                await asyncio.sleep(0)
                done.append("read")
                assert response.status_code == 200

        async with (
            serving(Answer(latency=0.1)) as server,
            httpx2.AsyncClient(transport=transport) as client,
        ):
            arrived = server.arrivals
            asking = [asyncio.create_task(ask(client, f"{server.url}/x")) for _ in range(20)]
            while len(done) < 10:
                await asyncio.sleep(0)
            # Without turns, all twenty first answers would have been read by now.
            assert len(done) < 15
            await asyncio.gather(*asking)
        assert len(arrived) == 40

    asyncio.run(run())


def test_requests_without_a_turn_have_no_order() -> None:
    """The order is for models of ours; the same transport leaves all other requests alone."""
    begun: list[str] = []

    async def answer(request: httpx2.Request) -> httpx2.Response:
        begun.append(request.url.path)
        await asyncio.sleep(1.0)
        return httpx2.Response(200)

    async def run(ordered: bool) -> float:
        transport = SequencedTransport(httpx2.MockTransport(answer))
        loop = asyncio.get_running_loop()
        answered: list[float] = []

        async def ask(client: httpx2.AsyncClient) -> None:
            async with transport.turn() if ordered else nullcontext():
                await client.get("http://provider.invalid/")
                answered.append(loop.time())

        async with httpx2.AsyncClient(transport=transport) as client:
            await asyncio.gather(*(ask(client) for _ in range(3)))
        return max(answered) - min(answered)

    assert run_simulated(run(ordered=False)) == 0.0
    # Each of these answers leads to no request, and is looked at for as long as that is possible.
    assert run_simulated(run(ordered=True)) == pytest.approx(0.02)
    assert len(begun) == 6
