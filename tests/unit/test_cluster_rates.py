"""One rate for all elements of a session: simulated, and real ones against a server that counts."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from pytest_siren.models.ratelimit.limiter import Caps, RateLimiter
from pytest_siren.models.ratelimit.shared_cells import Cell, LocalCells
from pytest_siren.sharing import peers
from pytest_siren.sharing.files import SharedFiles
from pytest_siren.sharing.state import Gauge
from tests.unit.limits_server import Answer, Server, serving
from tests.unit.simulated_time import run_simulated

ROOT = Path(__file__).parents[2]
ELEMENTS = 4


def most_within(moments: Sequence[float], seconds: float) -> int:
    """Return the most moments in any span of so many seconds."""
    return max(bisect_left(moments, moment + seconds) - at for at, moment in enumerate(moments))


def number_within(moments: Sequence[float], start: float, stop: float) -> int:
    return bisect_left(moments, stop) - bisect_left(moments, start)


# Simulated.


class ElementCells(LocalCells):
    """The cells of one element of several, whose lock is dear."""

    def __init__(self, shared: list[float], portion: float) -> None:
        super().__init__()
        self._cells = shared
        self.portion = portion
        self.locks = 0

    def lock(self) -> AbstractContextManager[None]:
        self.locks += 1
        return super().lock()


class Element:
    """A limiter of one element, and tasks that ask for places all the time."""

    def __init__(self, shared: list[float], processes: int, portion: float, caps: Caps) -> None:
        self.sent: list[float] = []
        self.cells = ElementCells(shared, portion)
        self.limiter = RateLimiter(
            self.cells,
            ceiling=64,
            processes=processes,
            caps=caps,
            clock=asyncio.get_running_loop().time,
        )
        self._tasks: list[asyncio.Task[None]] = []

    async def _ask(self, tokens: float, pause: float) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self.limiter.acquire(tokens)
            self.sent.append(loop.time())
            await asyncio.sleep(0.3)
            self.limiter.release(tokens / 2)
            await asyncio.sleep(pause)

    def work(self, runs: int, tokens: float = 0.0, pause: float = 0.0) -> None:
        self._tasks += [asyncio.create_task(self._ask(tokens, pause)) for _ in range(runs)]

    def die(self) -> None:
        """Give nothing back."""
        for task in self._tasks:
            task.cancel()


@pytest.mark.parametrize("per_minute", [30, 240, 6_000])
@pytest.mark.parametrize(("processes", "portion"), [(4, 0.25), (4, 3.0), (50, 0.75)])
def test_no_minute_holds_more_than_the_cap_and_a_death_costs_nothing(
    per_minute: float, processes: int, portion: float
) -> None:
    async def run() -> tuple[list[Element], float]:
        shared = [0.0] * len(Cell)
        caps = Caps(requests_per_minute=per_minute)
        elements = [Element(shared, processes, portion, caps) for _ in range(processes)]
        for element in elements:
            element.work(48)
        await asyncio.sleep(100)
        elements[0].die()
        died = asyncio.get_running_loop().time()
        await asyncio.sleep(100)
        for element in elements:
            element.die()
        return elements, died

    elements, died = run_simulated(run())
    sent = sorted(moment for element in elements for moment in element.sent)
    assert most_within(sent, 60) <= per_minute * 1.05
    for start in (died - 60, died, died + 30):
        assert number_within(sent, start, start + 60) >= 0.9 * per_minute
    # All of those that are left have had their part.
    parts = [number_within(element.sent, died, died + 100) for element in elements[1:]]
    fair = 100 / 60 * per_minute / (processes - 1)
    assert min(parts) >= 0.5 * fair - 1
    # The lock is taken once for each portion, and not for each request.
    locks = sum(element.cells.locks for element in elements)
    assert locks <= 1.2 * min(len(sent), 200 / portion * processes) + 10 * processes


def test_one_element_that_has_all_the_work_gets_all_of_the_cap() -> None:
    async def run() -> list[float]:
        shared = [0.0] * len(Cell)
        caps = Caps(requests_per_minute=1_200)
        elements = [Element(shared, 4, 0.25, caps) for _ in range(4)]
        for element in elements[1:]:
            # Now and then a request, and portions that are never used up.
            element.work(1, pause=5.0)
        elements[0].work(48)
        await asyncio.sleep(120)
        for element in elements:
            element.die()
        return elements[0].sent

    assert len(run_simulated(run())) >= 0.9 * 2 * 1_200


@pytest.mark.parametrize("portion", [0.0, 0.25, 3.0])
def test_tokens_count_as_many_as_requests_really_had(portion: float) -> None:
    """Each has half as many again as was expected."""

    async def run() -> list[float]:
        shared = [0.0] * len(Cell)
        caps = Caps(tokens_per_minute=90_000)
        elements = [Element(shared, 4, portion, caps) for _ in range(4)]
        for element in elements:
            element.work(16, tokens=100.0)
        await asyncio.sleep(150)
        for element in elements:
            element.die()
        return sorted(moment for element in elements for moment in element.sent)

    sent = run_simulated(run())
    assert most_within(sent, 60) * 150 <= 90_000 * 1.05
    assert number_within(sent, sent[0] + 60, sent[0] + 120) * 150 >= 90_000 * 0.85


@pytest.mark.parametrize("limit", [3.0, 20.0])
def test_the_adaptive_limit_holds_for_all_elements_together(limit: float) -> None:
    held = most = 0

    async def run() -> tuple[int, list[int]]:
        nonlocal held, most
        shared = [0.0] * len(Cell)
        shared[Cell.LIMIT], shared[Cell.RAISED_AT] = limit, 1.0
        elements = [Element(shared, 4, 0.25, Caps()) for _ in range(4)]
        for element in elements:
            cells = element.cells
            cells.total_in_flight = lambda: sum(one.cells.in_flight for one in elements)  # type: ignore[method-assign]
            cells.total_waiting = lambda: sum(one.cells.waiting for one in elements)  # type: ignore[method-assign]
            element.work(16)
        for _ in range(300):
            await asyncio.sleep(0.05)
            held = sum(one.cells.in_flight for one in elements)
            most = max(most, held)
        for element in elements:
            element.die()
        return most, [len(element.sent) for element in elements]

    most_held, sent = run_simulated(run())
    assert 0.85 * limit <= most_held <= 1.05 * limit
    assert max(sent) <= 4 * min(sent)


# Real elements.


async def started(folder: Path, url: str, rpm: float, tpm: float) -> list[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.unit.rate_process", str(folder), url]
    command += [str(ELEMENTS), str(rpm), str(tpm)]
    pipe = subprocess.PIPE
    elements = [
        subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe) for _ in range(ELEMENTS)
    ]
    for element in elements:
        assert element.stdout is not None
        assert await asyncio.to_thread(element.stdout.readline) == b"up\n"
    for element in elements:
        assert element.stdin is not None
        element.stdin.write(b"\n")
        element.stdin.flush()
    return elements


async def measured(
    folder: Path, seconds: float, rpm: float, tpm: float
) -> tuple[Server, float, float]:
    """Return the server, and when one element was killed, and the others were asked to stop."""
    state = SharedFiles.open(folder)
    async with serving(Answer(latency=0.2)) as server:
        elements = await started(folder, server.url, rpm, tpm)
        while len(server.arrivals) < 4 * ELEMENTS * 16:
            await asyncio.sleep(0.1)
        await asyncio.sleep(seconds / 2)
        elements[0].kill()
        killed = time.monotonic()
        await asyncio.sleep(seconds / 2)
        state.stop("enough")
        stopped = time.monotonic()
        codes = [await asyncio.to_thread(element.wait, 30) for element in elements]
        assert codes == [-9, 0, 0, 0]
        for element in elements:
            element.communicate()
    state.close()
    return server, killed, stopped


async def is_kept(folder: Path, seconds: float, span: float, rpm: float, tpm: float) -> None:
    """Look at all spans of so many seconds of a session of about ``seconds``."""
    server, killed, stopped = await measured(folder, seconds, rpm, tpm)
    a_second = (rpm or tpm / 120) / 60
    sent = server.arrivals
    # A minute holds no more than the cap; in a shorter span a burst of a second shows.
    most = a_second * 60 * 1.05 if span == 60 else a_second * (span + 2)
    assert most_within(sent, span) <= most
    for start in (killed - seconds / 2, killed, stopped - seconds / 3):
        stop = start + seconds / 3
        assert number_within(sent, start, stop) >= 0.85 * a_second * seconds / 3
    # All have stopped.
    assert sent[-1] < stopped + 2


@pytest.mark.slow
def test_elements_keep_to_one_cap_on_requests_and_the_dead_hold_nothing(tmp_path: Path) -> None:
    asyncio.run(is_kept(tmp_path, 10, 5, rpm=1_200, tpm=0))


@pytest.mark.nightly
@pytest.mark.timeout(400)
@pytest.mark.parametrize(("rpm", "tpm"), [(1_200, 0), (300, 0), (0, 144_000)])
def test_no_real_minute_holds_more_than_the_cap(tmp_path: Path, rpm: float, tpm: float) -> None:
    asyncio.run(is_kept(tmp_path, 150, 60, rpm=rpm, tpm=tpm))


# What several see of each other.


def test_many_read_what_one_of_them_gathers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    read = peers.read_if_new

    def noted(path: Path, known: tuple[int, int]) -> tuple[tuple[int, int], bytes | None]:
        reads.append(path.name)
        return read(path, known)

    states = [SharedFiles.open(tmp_path) for _ in range(24)]
    monkeypatch.setattr(peers, "read_if_new", noted)
    for number, state in enumerate(states):
        state[Gauge.REQUESTS] = number
        state.key("m").in_flight = 1
    expected = sum(range(24))

    def all_know() -> bool:
        # All of them look, for each has to tell the others.
        known = [
            (state.total(Gauge.REQUESTS), state.key("m").total_in_flight()) for state in states
        ]
        return known == [(expected, 24)] * 24

    def await_that(seen: Callable[[], bool]) -> None:
        until = time.monotonic() + 20
        while not seen():
            assert time.monotonic() < until
            time.sleep(0.02)

    await_that(all_know)
    reads.clear()
    for _ in range(10):
        time.sleep(0.13)
        assert all_know()
    gathered = reads.count("gathered.json")
    # Each has looked ten times at most, at one file; one or another at all files.
    assert 24 * 5 <= gathered <= 24 * 10
    assert len(reads) - gathered <= 4 * 10 * 24
    # Whoever leaves is followed by another one.
    first = min(states, key=lambda state: state._peers.name)
    first.close()
    states.remove(first)
    states[0].stop("enough")
    await_that(lambda: {state.stopped for state in states} == {"enough"})
    for state in states:
        state.close()


def test_caps_hold_where_each_sees_what_others_told_seconds_ago(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a network file system that serves files from a cache, but for what is locked."""
    delay = 1.5
    read, history = peers.read_if_new, dict[Path, list[tuple[float, bytes]]]()

    def late(path: Path, known: tuple[int, int]) -> tuple[tuple[int, int], bytes | None]:
        version, data = read(path, (0, 0))
        now = time.monotonic()
        seen = history.setdefault(path, [])
        if data is not None and (not seen or seen[-1][1] != data):
            seen.append((now, data))
        old = [one for at, one in seen if at <= now - delay]
        return version, old[-1] if old else None

    monkeypatch.setattr(peers, "read_if_new", late)
    states = [SharedFiles.open(tmp_path) for _ in range(3)]

    async def run() -> list[float]:
        sent: list[float] = []

        async def ask(limiter: RateLimiter) -> None:
            while time.monotonic() < began + 6:
                await limiter.acquire()
                sent.append(time.monotonic())
                await asyncio.sleep(0.05)
                limiter.release()

        limiters = [
            RateLimiter(
                state.key("m"),
                ceiling=16,
                processes=3,
                caps=Caps(requests_per_minute=1_800),
                clock=time.time,
            )
            for state in states
        ]
        began = time.monotonic()
        await asyncio.gather(*(ask(limiter) for limiter in limiters for _ in range(16)))
        return sent

    sent = asyncio.run(run())
    assert 0.85 * 6 * 30 <= number_within(sent, sent[0], sent[0] + 6) <= 7.5 * 30
    states[0].stop("enough")
    assert states[1].stopped is None
    until = time.monotonic() + 20 * delay
    while {state.stopped for state in states} != {"enough"}:
        assert time.monotonic() < until
        time.sleep(0.05)
    for state in states:
        state.close()


def test_thousands_of_requests_cost_neither_locks_nor_files_each(tmp_path: Path) -> None:
    operations: list[str] = []
    listening = True

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        if listening and event in {"open", "os.rename", "os.remove", "os.listdir", "os.symlink"}:
            operations.append(event)

    states = [SharedFiles.open(tmp_path) for _ in range(4)]
    state = states[0]
    limiters = [
        RateLimiter(state.key(name), ceiling=32, processes=4, caps=Caps(rpm, None), clock=time.time)
        for name, rpm in (("free", None), ("capped", 1_000_000.0), ("slowed", None))
    ]
    state.key("slowed").assign({Cell.LIMIT: 20.0})

    async def run(limiter: RateLimiter) -> None:
        async def one() -> None:
            for _ in range(100):
                await limiter.acquire()
                await asyncio.sleep(0)
                limiter.succeeded(0.2)
                state[Gauge.REQUESTS] += 1
                limiter.release()

        await asyncio.gather(*(one() for _ in range(20)))

    sys.addaudithook(audit)
    for limiter in limiters:
        asyncio.run(run(limiter))
        operations.clear()
        began = time.monotonic()
        asyncio.run(run(limiter))
        seconds = time.monotonic() - began
        # Twenty times a second what one tells and what each of three others does, and the lock.
        assert len(operations) <= (seconds + 0.2) * 20 * 8
        assert operations.count("os.symlink") <= seconds * 2 * 4 + 3
    listening = False
    for one in states:
        one.close()
