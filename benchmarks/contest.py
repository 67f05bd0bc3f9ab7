"""One harness does one piece of work: what it took, and the proof that it did all of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.folders import temporary
from benchmarks.processes import Command, FailedError, Finished, execute
from benchmarks.report import say
from benchmarks.serving import Serving, serving
from benchmarks.work import Work

_TELL_EVERY = 15.0


@dataclass(frozen=True)
class Entry:
    """A harness with its settings.

    ``command`` makes what is executed in an empty folder; ``check`` looks at what that left
    and raises ``FailedError`` unless all runs are there, with scores.
    """

    name: str
    command: Callable[[Path, Work], Command]
    check: Callable[[Path, Work, Finished], None]


@dataclass(frozen=True)
class Result:
    """Seconds of the whole process, of its CPU, and from the first request to the last answer."""

    entry: str
    work: Work
    wall: float
    cpu: float
    in_flight: float
    most_in_flight: int

    @property
    def to_ideal(self) -> float:
        return self.in_flight / self.work.ideal


def contend(entry: Entry, work: Work) -> Result:
    """Let ``entry`` do ``work`` against a fresh server. Raises ``FailedError``."""
    say(f"  {entry.name}: {work.runs} runs, {work.requests} requests ...")
    with (
        temporary() as folder,
        serving(work.latency, work.calls) as server,
    ):
        command = entry.command(Path(folder), work)
        command = _pointed_at(command, server)
        finished = execute(command, watch=_Watch(server, work))
        stats = server.stats()
        entry.check(Path(folder), work, finished)
        _check_requests(stats, work)
    result = Result(
        entry.name,
        work,
        finished.wall,
        finished.cpu,
        stats["last_answered"] - stats["first_received"],
        stats["most_in_flight"],
    )
    say(
        f"  {entry.name}: {result.wall:.1f} s, {result.cpu:.1f} s of CPU; "
        f"{result.to_ideal:.2f} x ideal after start-up"
    )
    return result


def _pointed_at(command: Command, server: Serving) -> Command:
    variables = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "none"}
    return Command(
        command.arguments, command.folder, {**variables, **command.variables}, command.good_codes
    )


def _check_requests(stats: dict[str, Any], work: Work) -> None:
    for count in ("requests", "answered"):
        if stats[count] != work.requests:
            raise FailedError(
                f"unequal work: the server counts {stats[count]} {count}, not {work.requests}"
            )
    if stats["faults"] or stats["unknown"] or stats["abandoned"]:
        raise FailedError(f"the server saw requests go wrong: {stats}")


class _Watch:
    """Says every now and then how far a harness is."""

    def __init__(self, server: Serving, work: Work) -> None:
        self.server, self.work = server, work
        self.told = 0.0

    def __call__(self, seconds: float) -> None:
        if seconds - self.told >= _TELL_EVERY:
            self.told = seconds
            answered = self.server.stats()["answered"]
            say(f"    {seconds:.0f} s: {answered} of {self.work.requests} requests answered")
