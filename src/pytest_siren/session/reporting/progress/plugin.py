"""Progress while evaluations run: figures and their lines."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from pytest_siren.session.config.options import progress_period
from pytest_siren.session.config.processes import Part, executor_of
from pytest_siren.sharing.state import Gauge
from pytest_siren.text.words import counted

if TYPE_CHECKING:
    from pytest_siren.payloads import RunReport
    from pytest_siren.session.reporting.progress.live_line import LiveLine


class ProgressReporting:
    """Shows how far the evaluations are, between ``begin`` and ``end``."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._period = progress_period(config)
        self._progress: Progress | None = None
        self._live: LiveLine | None = None
        self._lines: PlainLines | None = None
        self._fd: int | None = None

    def begin(self, total: int, board: Gauges) -> None:
        """Show progress from now on.

        ``total`` runs will be reported; ``board`` must stay open until ``end``. To be called in the
        main thread, once the items are known and before the first run starts.
        """
        if self._progress is not None or not self._wanted():
            return
        from pytest_siren.session.reporting.progress.live_line import LiveLine

        progress = self._progress = Progress(
            total, board, firsts=bool(self._config.getoption("siren_gate_stop"))
        )
        self._fd = self._terminal()
        if self._fd is not None:
            self._live = LiveLine(self._fd, lambda width: live_text(progress.figures(), width))
            self._live.start()
        else:
            self._lines = PlainLines(
                self._config, lambda: plain_line(progress.figures()), self._period
            )
            self._lines.start()

    def tick(self) -> None:
        """Write a plain line if it is time to. Called by the run loop, a few times a second."""
        if self._lines is not None:
            self._lines.tick()

    def held(self) -> AbstractContextManager[None]:
        """Write no plain lines inside the context, in which another writer uses the terminal."""
        return nullcontext() if self._lines is None else self._lines.held()

    def end(self) -> None:
        """Show no more, and leave a terminal as if nothing had been shown. May be called again."""
        if self._lines is not None:
            self._lines.end()
            self._lines = None
        if self._live is not None:
            self._config.get_terminal_writer().flush()
            self._live.end()
            self._live = None
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        self._progress = None

    def pytest_siren_run_report(self, report: RunReport) -> None:
        if self._progress is not None:
            self._progress.finished(report)

    def pytest_enter_pdb(self) -> None:
        if self._live is not None:
            self._live.pause()

    def pytest_leave_pdb(self) -> None:
        if self._live is not None:
            self._live.resume()

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        self.end()

    @pytest.hookimpl(tryfirst=True)
    def pytest_internalerror(self) -> None:
        self.end()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        self.end()

    def pytest_unconfigure(self) -> None:
        self.end()

    def _wanted(self) -> bool:
        option = self._config.option
        return not (
            option.siren_no_progress
            or option.collectonly
            or self._config.get_verbosity() <= -2
            or not self._config.pluginmanager.has_plugin("terminalreporter")
        )

    def _terminal(self) -> int | None:
        """Return a descriptor of our own for a terminal that can show a live line, if there is."""
        from pytest_siren.session.reporting.progress.live_line import capable

        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        if not reporter.isatty() or any(os.environ.get(name) for name in ("CI", "BUILD_NUMBER")):
            return None
        # The stream that Python began with: pytest and tests may have replaced ``sys.stdout``.
        stream = sys.__stdout__
        if stream is None or stream.closed:
            return None
        self._config.get_terminal_writer().flush()
        with uncaptured(self._config):
            fd = os.dup(stream.fileno())
        if not capable(fd, os.environ):
            os.close(fd)
            return None
        return fd


_WINDOW = 30.0
"""Length in seconds of the window over which the rate is computed."""
_ENOUGH = 10
"""Least number of runs for a rate; with fewer in the window, the window is extended."""
_CLOCK_SKEW = 60.0
"""Seconds by which the clocks of two hosts may differ."""

_Run = tuple[str, str, int]
_Task = tuple[str, str]


class Gauges(Protocol):
    """The gauges of all processes, as a ``Board`` provides them."""

    def total(self, gauge: Gauge) -> float:
        """Return the sum over all processes."""
        ...

    def earliest(self, gauge: Gauge) -> float:
        """Return the smallest nonzero value among living processes."""
        ...


@dataclass(frozen=True)
class Figures:
    """The state of the evaluations at one moment."""

    done: int
    """Runs that ended, whether scored, in error or cancelled."""
    total: int
    running: int = 0
    held: int = 0
    """Runs in flight that wait for a rate limit."""
    resumes_in: float | None = None
    """Seconds until the first of them continues; ``None`` if none waits or it is unknown."""
    rate: float | None = None
    """Runs per second; ``None`` before the first one ended."""
    asr: float | None = None
    """Attack success rate so far, averaged per task first; ``None`` before any score is known."""
    utility: float | None = None
    """Mean benign score so far, averaged per task first; ``None`` before any score is known."""
    errors: int = 0
    """Runs whose last attempt ended in an error."""
    tokens: int = 0
    """Input and output tokens."""
    cost: float = 0.0
    """US dollars of the attempts that have a price."""
    unpriced: bool = False
    """Whether an attempt has no known price, so that ``cost`` is too low."""
    retries: int = 0
    """Model requests that were sent again."""

    @property
    def eta(self) -> float | None:
        """Seconds until all runs have ended, at the present rate; ``None`` when unknown."""
        return (self.total - self.done) / self.rate if self.rate else None


class Rate:
    """The recent number of runs that end per second."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._seconds: deque[list[int]] = deque()
        """Pairs of a second and the number of runs that ended in it."""
        self._count = 0

    def add(self, now: float) -> None:
        """Count a run that ended ``now``, which never runs backwards."""
        if not self._seconds or self._seconds[-1][0] != int(now):
            self._seconds.append([int(now), 0])
        self._seconds[-1][1] += 1
        self._count += 1

    def per_second(self, now: float) -> float | None:
        """Return the rate; ``None`` when nothing has ended yet."""
        while self._seconds and self._seconds[0][0] + 1 <= now - _WINDOW:
            second, count = self._seconds[0]
            if self._count - count < _ENOUGH:
                break
            self._seconds.popleft()
            self._count -= count
            self._since = second + 1.0
        return self._count / max(now - self._since, 0.5) if self._count else None


@dataclass
class _TaskMean:
    """The mean over tasks of the mean over their runs, kept up to date."""

    _tasks: dict[Hashable, tuple[float, int]] = field(default_factory=dict)
    _sum: float = 0.0

    def add(self, task: Hashable, value: float, runs: int = 1) -> None:
        """Add a run's value; with ``runs=-1`` and the negated value, remove one."""
        total, count = self._tasks.pop(task, (0.0, 0))
        if count:
            self._sum -= total / count
        total, count = total + value, count + runs
        if count:
            self._tasks[task] = (total, count)
            self._sum += total / count

    @property
    def mean(self) -> float | None:
        # Rounding errors of additions and removals may move the mean out of 0..1.
        return min(max(self._sum / len(self._tasks), 0.0), 1.0) if self._tasks else None


class Progress:
    """Counts the runs of a session as they end.

    Of several attempts at a run the last one counts. Rates are those of the summary, but over all
    jobs of the session together: every task of every job weighs the same. With ``firsts`` they are
    those of first runs, which are unbiased if tasks may end early.
    """

    def __init__(
        self,
        total: int,
        gauges: Gauges,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        *,
        firsts: bool = False,
    ) -> None:
        self._firsts = firsts
        self._total = total
        self._gauges = gauges
        self._clock = clock
        self._wall_clock = wall_clock
        self._began_at = wall_clock()
        self._rate = Rate(clock())
        self._last: dict[_Run, tuple[int, float | None, float | None, bool]] = {}
        self._asr = _TaskMean()
        self._utility = _TaskMean()
        self._errors = 0
        self._lock = threading.Lock()

    def finished(self, report: RunReport) -> None:
        """Count an attempt that ended."""
        with self._lock:
            self._count(report)

    def figures(self) -> Figures:
        """Return the present state. May be called from another thread than ``finished``."""
        total = self._gauges.total
        running, held = int(total(Gauge.RUNNING)), int(total(Gauge.HELD))
        resumes_at = self._gauges.earliest(Gauge.RESUMES_AT) if held else 0.0
        with self._lock:
            done = len(self._last)
            return Figures(
                done=done,
                total=max(self._total, done),
                running=running,
                held=held,
                resumes_in=max(resumes_at - self._wall_clock(), 0.0) if resumes_at else None,
                rate=self._rate.per_second(self._clock()),
                asr=self._asr.mean,
                utility=self._utility.mean,
                errors=self._errors,
                tokens=int(total(Gauge.INPUT_TOKENS) + total(Gauge.OUTPUT_TOKENS)),
                cost=total(Gauge.COST),
                unpriced=total(Gauge.UNPRICED) > 0,
                retries=int(total(Gauge.RETRIES)),
            )

    def _count(self, report: RunReport) -> None:
        run = (report.job, report.task_id, report.run_index)
        task = (report.job, report.task_id)
        before = self._last.get(run)
        if before is None:
            # Runs reported from earlier records do not count for the present rate.
            if report.finished_at >= self._began_at - _CLOCK_SKEW:
                self._rate.add(self._clock())
        elif before[0] > report.attempt:
            return
        else:
            self._score(task, *before[1:3], runs=-1)
            self._errors -= before[3]
        scored = report.status == "scored"
        scored = scored and not (self._firsts and report.run_index)
        attacked = scored and report.attack is not None and report.attack_score is not None
        hit = float(report.attack_score == 1.0) if attacked else None
        utility = report.benign_score if scored else None
        failed = report.status == "error"
        self._last[run] = (report.attempt, hit, utility, failed)
        self._score(task, hit, utility, runs=1)
        self._errors += failed

    def _score(self, task: _Task, hit: float | None, utility: float | None, *, runs: int) -> None:
        for mean, value in ((self._asr, hit), (self._utility, utility)):
            if value is not None:
                mean.add(task, value * runs, runs)


_NARROWEST = 20
_GAP = "  "


def live_text(figures: Figures, width: int) -> str:
    """Return one line of at most ``width`` characters, without the least important figures.

    Raises ``ValueError`` for a width below 20.
    """
    if width < _NARROWEST:
        raise ValueError(f"the live line needs at least {_NARROWEST} columns, not {width}")
    shown = {0: _done(figures, width)}
    for place, text in _by_importance(figures):
        trial = {**shown, place: text}
        if len(_joined(trial)) <= width:
            shown = trial
    return _joined(shown)


def plain_line(figures: Figures) -> str:
    """Return one line for a log, with every figure there is."""
    parts = [
        f"siren: {figures.done}/{figures.total} ({_percent(figures)} %)",
        f"{figures.running} in flight",
    ]
    if figures.held:
        parts.append(_held(figures))
    parts.append("? runs/s" if figures.rate is None else f"{_rate(figures.rate)} runs/s")
    if figures.done < figures.total:
        parts.append(f"ETA {_span(figures.eta)}")
    if figures.asr is not None:
        parts.append(f"ASR {figures.asr:.2f}")
    if figures.utility is not None:
        parts.append(f"utility {figures.utility:.2f}")
    parts.append(counted(figures.errors, "error", "errors"))
    if figures.retries:
        parts.append(counted(figures.retries, "retry", "retries"))
    if figures.tokens:
        parts.append(f"{_amount(figures.tokens, ' ')} tokens")
    if figures.cost:
        parts.append(_dollars(figures))
    return ", ".join(parts)


def _by_importance(figures: Figures) -> list[tuple[int, str]]:
    """Return places on the line and texts for them, the most important first.

    A later text for the same place is more detailed and longer.
    """
    running, held, rate, eta, asr, utility, errors, tokens, cost, retries = range(1, 11)
    many_held = figures.held * 2 >= figures.running
    parts = [(running, f"{figures.running} in flight")]
    if figures.held and many_held:
        parts += [(held, f"{figures.held} held"), (held, _held(figures))]
    if figures.done < figures.total:
        parts.append((eta, f"ETA {_span(figures.eta)}"))
    if figures.asr is not None:
        parts.append((asr, f"ASR {figures.asr:.2f}"))
    parts.append((errors, f"err {figures.errors}"))
    if figures.held and not many_held:
        parts.append((held, f"{figures.held} held"))
    if figures.rate is not None:
        parts.append((rate, f"{_rate(figures.rate)}/s"))
    if figures.utility is not None:
        parts.append((utility, f"util {figures.utility:.2f}"))
    if figures.held and not many_held:
        parts.append((held, _held(figures)))
    if figures.cost:
        parts.append((cost, _dollars(figures)))
    if figures.tokens:
        parts.append((tokens, f"{_amount(figures.tokens)} tokens"))
    if figures.retries:
        parts.append((retries, counted(figures.retries, "retry", "retries")))
    return parts


def _joined(shown: dict[int, str]) -> str:
    return _GAP.join(shown[place] for place in sorted(shown))


def _done(figures: Figures, width: int) -> str:
    count = f"{figures.done}/{figures.total}"
    percent = f"{_percent(figures)}%"
    for text in (f"siren {count} {percent}", f"{count} {percent}", count):
        if len(text) <= width:
            return text
    return percent


def _percent(figures: Figures) -> int:
    return figures.done * 100 // figures.total if figures.total else 100


def _held(figures: Figures) -> str:
    held = f"{figures.held} held (rate limit)"
    return held if figures.resumes_in is None else f"{held}, next in {_span(figures.resumes_in)}"


def _rate(per_second: float) -> str:
    if per_second >= 100:
        return f"{per_second:.0f}"
    return f"{per_second:.1f}" if per_second >= 0.95 else f"{per_second:.2f}"


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 1000 else "?"


def _amount(number: int, gap: str = "") -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size * 0.9995:
            return f"{number / size:.1f}{gap}{unit}"
    return str(number)


def _dollars(figures: Figures) -> str:
    amount = f"${figures.cost:.2f}" if figures.cost >= 0.01 else f"${figures.cost:.4f}"
    return f"{amount}+" if figures.unpriced else amount


class PlainLines:
    """Writes ``text()`` through pytest's terminal reporter every ``period`` seconds.

    pytest's reporter is not made for threads, and while a test runs its stream may lead into the
    test's captured output. So a process that executes tests writes by ``tick``, in the main thread
    only. A controller executes none, but its main thread waits for as long as workers are silent:
    there a thread writes, and never while a hook is reporting.
    """

    def __init__(self, config: pytest.Config, text: Callable[[], str], period: float) -> None:
        self._config = config
        self._text = text
        self._period = period
        self._due = time.monotonic() + period
        self._reporting = threading.RLock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        if executor_of(config).role.part is Part.CONTROLLER:
            self._thread = threading.Thread(target=self._keep_writing, name="siren-progress")
            self._thread.daemon = True

    def start(self) -> None:
        """Begin; the first line comes after one period."""
        self._config.pluginmanager.register(self, "siren-progress-lines")
        if self._thread is not None:
            self._thread.start()

    def tick(self) -> None:
        """Write a line if it is time to."""
        if self._thread is None and time.monotonic() >= self._due:
            self._write()

    def end(self) -> None:
        """Write nothing more. May be called again."""
        self._over.set()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(timeout=2)
        if self._config.pluginmanager.is_registered(self):
            self._config.pluginmanager.unregister(self)

    def _keep_writing(self) -> None:
        while not self._over.wait(max(self._due - time.monotonic(), 0.0)):
            with self._reporting:
                if not self._over.is_set():
                    self._write()

    def _write(self) -> None:
        self._due = time.monotonic() + self._period
        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        text = self._text()
        with uncaptured(self._config):
            writer = self._config.get_terminal_writer()
            if writer.width_of_current_line:
                writer.line()
            writer.line(text)
            writer.flush()
        if reporter.showlongtestinfo:
            # This ends pytest's current line; further letters follow without the name of the file.
            reporter.currentfspath = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Write nothing inside the context, in which another writer uses the terminal."""
        with self._reporting:
            yield

    # The hooks in which a controller writes.

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logstart(self) -> Generator[None, Any, Any]:
        with self._reporting:
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self) -> Generator[None, Any, Any]:
        with self._reporting:
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logfinish(self) -> Generator[None, Any, Any]:
        with self._reporting:
            return (yield)


def uncaptured(config: pytest.Config) -> AbstractContextManager[None]:
    """Suspend pytest's capture, so that output reaches the terminal."""
    capture: Any = config.pluginmanager.get_plugin("capturemanager")
    return nullcontext() if capture is None else capture.global_and_fixture_disabled()
