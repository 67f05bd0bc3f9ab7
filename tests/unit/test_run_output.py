"""What runs print and warn of is theirs, from whatever thread, and bounded."""

from __future__ import annotations

import contextvars
import io
import sys
import threading
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_siren.session.execution import output_capture as capture
from pytest_siren.session.execution.output_capture import (
    OUTPUT,
    Capture,
    OutputText,
    RunOutput,
    RunStreams,
)


def config(method: str = "fd") -> Any:
    return SimpleNamespace(
        getoption=lambda name, default=None: method,
        pluginmanager=SimpleNamespace(has_plugin=lambda name: False, get_plugin=lambda name: None),
    )


def as_run(call: Callable[[], object]) -> RunOutput:
    """Return what ``call`` puts out as code of a run."""
    output = RunOutput()

    def called() -> None:
        OUTPUT.set(output)
        call()

    contextvars.copy_context().run(called)
    return output


def new_stdout(monkeypatch: pytest.MonkeyPatch) -> io.TextIOWrapper:
    """Put a standard output in place. In the test itself: pytest puts its own before each phase."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", stream)
    return stream


def shown(terminal: io.TextIOWrapper) -> str:
    terminal.flush()
    found = terminal.buffer.getvalue()  # type: ignore[attr-defined]
    return str(found.decode())


def write_everywhere() -> None:
    print("print", flush=True)  # noqa: T201
    sys.stdout.write("write\n")
    sys.stdout.writelines(["lines\n"])
    sys.stdout.buffer.write(b"bytes \xff\n")


def in_threads() -> None:
    threads = [threading.Thread(target=write_everywhere) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_what_a_run_writes_never_reaches_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = new_stdout(monkeypatch)
    before = threading.Thread.start
    with RunStreams(config()).diverted(lambda: 0):
        print("not a run's")  # noqa: T201
        outputs = [as_run(write_everywhere), as_run(in_threads)]
    print("afterwards", flush=True)  # noqa: T201
    one = ["bytes �", "lines", "print", "write"]
    assert sorted(str(outputs[0].stdout).splitlines()) == one
    assert sorted(str(outputs[1].stdout).splitlines()) == sorted(one * 3)
    assert shown(terminal) == "not a run's\nafterwards\n"
    assert threading.Thread.start is before
    assert "write" not in vars(terminal)


def test_streams_that_are_put_in_place_later_are_diverted_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = new_stdout(monkeypatch)
    streams = RunStreams(config())
    with streams.diverted(lambda: 0):
        later = new_stdout(monkeypatch)
        streams.pytest_runtest_setup()
        streams.pytest_runtest_setup()
        output = as_run(write_everywhere)
        print("a test's", flush=True)  # noqa: T201
    assert len(str(output.stdout).splitlines()) == 4
    assert (shown(later), shown(terminal)) == ("a test's\n", "")


def test_text_is_let_through_once_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = new_stdout(monkeypatch)
    with RunStreams(config("tee-sys")).diverted(lambda: 0):
        output = as_run(lambda: print("both", flush=True))  # noqa: T201
    assert (str(output.stdout), shown(terminal)) == ("both\n", "both\n")


def close_everything() -> None:
    io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8").write("wrapped\n")  # and collected
    sys.stdout.buffer.close()
    sys.stdout.close()
    print("closed")  # noqa: T201


def test_a_run_cannot_close_the_streams_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = new_stdout(monkeypatch)
    with RunStreams(config()).diverted(lambda: 0):
        output = as_run(close_everything)
        print("later")  # noqa: T201
    assert shown(terminal) == "later\n"
    assert "closed" in "".join(text for _, text in output.sections())
    terminal.close()
    assert terminal.buffer.closed


def test_nothing_is_diverted_without_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = new_stdout(monkeypatch)
    with RunStreams(config("no")).diverted(lambda: 0):
        output = as_run(lambda: print("seen", flush=True))  # noqa: T201
    assert (str(output.stdout), shown(terminal)) == ("", "seen\n")


def test_streams_stay_diverted_while_something_of_a_run_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = new_stdout(monkeypatch)
    gate = threading.Event()
    late: list[threading.Thread] = []

    def begin() -> None:
        def write() -> None:
            gate.wait(10)
            print("late", flush=True)  # noqa: T201

        late.append(threading.Thread(target=write))
        late[0].start()

    with RunStreams(config()).diverted(lambda: 0):
        output = as_run(begin)
    gate.set()
    late[0].join()
    assert (str(output.stdout), shown(terminal)) == ("late\n", "")


def test_output_is_bounded_while_it_is_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "_MOST_TEXT", 10)
    text = OutputText()
    for _ in range(100):
        text.append("abc")
    assert str(text) == "abcabcabca\n(290 more characters)\n"
    assert text._kept.tell() == 10


def test_many_threads_lose_no_text() -> None:
    text = OutputText()

    def write() -> None:
        for _ in range(2_000):
            text.append("x")

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(str(text)) == 16_000


def test_warnings_of_a_run_are_kept_once_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "_MOST_WARNINGS", 3)

    def warn() -> None:
        for number in (0, 1, 1, 2, 3, 4):
            warnings.warn(f"number {number}", UserWarning, stacklevel=1)

    outputs: list[RunOutput] = []
    Capture(config()).step(lambda: outputs.append(as_run(warn)))
    (output,) = outputs
    assert [str(found.message) for found in output.warnings.values()] == [
        f"number {number}" for number in range(3)
    ]
    assert str(output.log) == "UserWarning: number 3\nUserWarning: number 4\n"


def test_filters_are_the_tests_own_between_two_steps() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters), warnings.showwarning
        inside: list[Any] = []
        Capture(config()).step(lambda: inside.append(warnings.filters[0]))
        assert (list(warnings.filters), warnings.showwarning) == before
    assert inside[0][0] == "always"
