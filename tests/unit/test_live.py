"""The live line, on a real pseudo-terminal with a terminal emulator behind it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

import pytest

from pytest_siren.session.reporting.progress.live_line import LiveLine, capable
from tests.unit.terminal_sample import Terminal, terminal

EMPTY = ""
A_FEW = "$ pytest\n"
FULL = "".join(f"earlier line {number}\n" for number in range(60))
FULL_AND_IN_A_LINE = FULL + "the last row, not yet ended: "
SCREENS = pytest.mark.parametrize(
    "before",
    [EMPTY, A_FEW, "\n" * 22, "\n" * 23, FULL, FULL_AND_IN_A_LINE],
    ids=["empty", "nearly-empty", "last-but-one", "last", "full", "full-in-a-line"],
)


@contextmanager
def shown(on: Terminal, text: Callable[[int], str] = lambda width: "LIVE") -> Iterator[LiveLine]:
    line = LiveLine(on.fd, text)
    line.start()
    try:
        yield line
    finally:
        line.end()
        on.take()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline, "it did not come to that within 10 s"
        time.sleep(0.02)


def letters_and_lines(on: Terminal) -> None:
    """Write as pytest does, over more than a screen, with pauses in which the line is drawn."""
    for number in range(40):
        on.write("." * 10)
        if number in (2, 30):
            time.sleep(0.3)
        on.write("\x1b[32mPASSED\x1b[0m".rjust(70, " ") + "[100%]\n" if number % 3 else "\n")
    on.write("=" * 80 + "\nno newline here")


@SCREENS
def test_the_screen_is_afterwards_as_if_there_had_been_no_line(before: str) -> None:
    with terminal() as without, terminal() as with_line:
        for on in (without, with_line):
            on.write(before)
        letters_and_lines(without)
        with shown(with_line):
            letters_and_lines(with_line)
            until(lambda: with_line.rows[-1] == "LIVE")
        without.write("\n$ ls\nprompt")
        with_line.write("\n$ ls\nprompt")
        assert with_line.everything == without.everything
        assert with_line.cursor == without.cursor


@SCREENS
def test_a_short_session_leaves_the_cursor_where_it_was(before: str) -> None:
    with terminal() as on:
        on.write(before)
        column, text = on.cursor[1], [row for row in on.everything if row]
        with shown(on):
            assert on.rows[-1] == "LIVE"
        assert [row for row in on.everything if row] == text
        assert on.cursor[1] == column
        on.write("next")
        ends = on.rows[on.cursor[0]]
        assert ends == (before.rpartition("\n")[2] + "next")


def test_the_line_is_drawn_again_while_nobody_writes() -> None:
    numbers = count()
    with terminal() as on, shown(on, lambda width: f"LIVE {next(numbers)}"):
        first = on.rows[-1]
        until(lambda: on.rows[-1] != first)


@pytest.mark.parametrize("columns", [20, 21, 50])
def test_the_line_is_told_the_width_and_never_fills_the_last_column(columns: int) -> None:
    with terminal(columns=columns) as on, shown(on, lambda width: "x" * width):
        assert on.rows[-1] == "x" * (columns - 1)
        assert on.rows[-2] == ""


def test_the_line_has_no_colour_of_what_was_written_before() -> None:
    with terminal() as on:
        on.write("\x1b[31;44mred on blue, not ended")
        with shown(on):
            assert on.rows[-1] == "LIVE"
            cell = on.screen.buffer[23][0]
            assert (cell.fg, cell.bg) == ("default", "default")
            on.write(" and on")
            assert on.screen.buffer[0][25].fg == "red"


def test_a_larger_terminal_has_the_line_in_its_new_bottom_row_only() -> None:
    with terminal() as on:
        on.write(FULL)
        with shown(on, lambda width: "LIVE AND LONGER"):
            on.write("before\n")
            on.resize(30, 100)
            until(lambda: on.rows[-1] == "LIVE AND LONGER")
            on.write("after\n" * 3)
            assert "".join(on.rows).count("LONGER") == 1
        assert on.everything[-9:] == ["before", "after", "after", "after", *[""] * 5]


def test_a_terminal_that_became_too_small_is_left_alone() -> None:
    with terminal() as on, shown(on):
        on.write("text")
        on.resize(24, 15)
        until(lambda: "LIVE" not in on.rows)
        on.resize(24, 80)
        until(lambda: on.rows[-1] == "LIVE")
        assert on.rows[0] == "text"


def test_a_program_that_resets_the_terminal_does_not_lose_the_row() -> None:
    with terminal() as on, shown(on):
        on.write("\x1b[r\x1b[H\x1b[2J")
        until(lambda: on.rows[-1] == "LIVE")
        on.write("line\n" * 40)
        assert on.rows[-1] == "LIVE"


def test_while_paused_the_whole_terminal_is_free() -> None:
    with terminal() as on, shown(on) as line:
        line.pause()
        on.write("line\n" * 40)
        time.sleep(0.6)
        assert on.rows == ["line"] * 23 + [""]
        line.resume()
        assert on.rows == ["line"] * 22 + ["", "LIVE"]
        on.write("going on")
        assert on.rows[-2:] == ["going on", "LIVE"]


def test_ending_twice_or_after_the_terminal_has_gone_is_no_error() -> None:
    with terminal() as on:
        with shown(on) as line:
            pass
        line.end()
        assert "LIVE" not in on.rows
    with terminal() as on, shown(on):
        on.hang_up()
        time.sleep(0.5)


@pytest.mark.parametrize("way", ["", "raise KeyboardInterrupt", "sys.exit(3)"])
def test_the_row_is_given_back_when_the_interpreter_ends(way: str) -> None:
    with terminal() as on:
        on.write(FULL)
        script(on, f"line.start(); {way}")
        assert "LIVE" not in on.rows
        on.write("a\nb\nc")
        assert on.rows[-1] == "c"


def test_a_forked_process_does_not_give_the_row_back() -> None:
    with terminal() as on:
        script(on, "line.start(); os.fork() or sys.exit(); os.wait(); os._exit(0)")
        assert on.rows[-1] == "LIVE"


def script(on: Terminal, body: str) -> None:
    head = "import os, sys; from pytest_siren.session.reporting.progress.live_line import LiveLine;"
    line = "line = LiveLine(os.dup(1), lambda width: 'LIVE');"
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", head + line + body],
        stdout=on.fd,
        stderr=subprocess.PIPE,
        check=False,
    )
    on.take(0.2)


def test_a_terminal_must_be_able_to_show_the_line() -> None:
    good = {"TERM": "xterm-256color"}
    with terminal() as on:
        assert capable(on.fd, good)
        assert not capable(on.fd, {"TERM": "dumb"})
        assert not capable(on.fd, {})
        on.resize(4, 80)
        assert not capable(on.fd, good)
        on.resize(24, 19)
        assert not capable(on.fd, good)
    with open(os.devnull) as file:
        assert not capable(file.fileno(), good)
