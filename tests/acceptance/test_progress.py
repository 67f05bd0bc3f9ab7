"""Progress of real sessions: the live line on a terminal, plain lines in a log."""

from __future__ import annotations

import re
import time

import pytest

from tests.acceptance.conftest import Project
from tests.acceptance.slow import SLOW_MODELS, eval_file
from tests.unit.terminal_sample import Terminal, terminal

LIVE = re.compile(r"siren \d+/\d+ \d+%")
PLAIN = re.compile(
    r"siren: \d+/9 \(\d+ %\), \d+ in flight, \S+ runs/s, (ETA [^,]+, )?(utility \d\.\d\d, )?"
    r"\d errors?(, \d+ tokens)?"
)
NAMED = ("evals", "test_other.py")
"""Without them, the first session of a project announces what it will spend."""
FULL = "earlier\n" * 50
TEST = """
import subprocess

def test_that_is_no_run():
    print("printed by a test", flush=True)
    subprocess.run(["echo", "printed by a program"])
    assert False, "this one fails"
"""


@pytest.fixture
def slow(project: Project) -> Project:
    """Eight runs that take up to two seconds, one that fails, and a test that is no run."""
    project.write("conftest.py", SLOW_MODELS)
    project.write("test_other.py", TEST)
    (project.path / "evals/eval_mail.yaml").unlink()
    seconds = {f"t{number}": 0.3 + number / 4 for number in range(8)}
    project.write("evals/eval_slow.yaml", eval_file({**seconds, "bad": 0.2}))
    return project


def on_terminal(on: Terminal, project: Project, *args: str, **environ: str) -> set[str]:
    """Run a session on ``on`` to its end, and return what the bottom row showed meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COLUMNS")
        for name, value in {"TERM": "xterm-256color", **environ}.items():
            patch.setenv(name, value)
        session = project.spawn(on.fd, *NAMED, *args, given=on.fd)
    seen = set()
    deadline = time.monotonic() + 90
    while session.poll() is None and time.monotonic() < deadline:
        on.take(0.05)
        seen.add(on.rows[-1])
    session.kill()
    session.wait()
    on.take(0.2)
    return seen


@pytest.mark.parametrize(
    ("args", "before"),
    [
        pytest.param([], "", id="empty", marks=pytest.mark.nightly),
        pytest.param([], FULL, id="full"),
        pytest.param(["-v"], FULL, id="verbose", marks=pytest.mark.nightly),
        pytest.param(["-q", "-s"], FULL, id="quiet-uncaptured", marks=pytest.mark.nightly),
        pytest.param(["-n2"], FULL, id="xdist"),
    ],
)
def test_a_live_line_that_leaves_no_trace(slow: Project, args: list[str], before: str) -> None:
    with terminal() as on:
        on.write(before)
        seen = on_terminal(on, slow, *args)
        on.write("$ ")
        lines = on.everything
    counts = {match[0] for row in seen if (match := LIVE.match(row))}
    assert len(counts) > 2
    assert any("in flight" in row and "ETA" in row for row in seen)
    assert not any(LIVE.search(line) for line in lines)
    assert lines.count("earlier") == before.count("\n")
    assert sum("this one fails" in line for line in lines) >= 1
    text = "\n".join(lines).rstrip()
    assert re.search(r"2 failed, 8 passed in [\d.]+s( =+)?\n\$$", text)


@pytest.mark.parametrize(
    "args",
    [
        ["--siren-no-progress"],
        pytest.param(["-qq"], marks=pytest.mark.nightly),
        pytest.param(["--collect-only"], marks=pytest.mark.nightly),
    ],
    ids=" ".join,
)
def test_it_can_be_turned_off(slow: Project, args: list[str]) -> None:
    with terminal() as on:
        seen = on_terminal(on, slow, "-o", "siren_progress_seconds=0.1", *args)
        everything = "\n".join(on.everything)
    assert not any(LIVE.search(row) for row in seen)
    assert "siren: " not in everything


@pytest.mark.parametrize(
    "environ", [pytest.param({"TERM": "dumb"}, marks=pytest.mark.nightly), {"CI": "true"}], ids=str
)
def test_terminals_that_cannot_and_ci_get_plain_lines(
    slow: Project, environ: dict[str, str]
) -> None:
    with terminal(columns=120) as on:
        seen = on_terminal(on, slow, "-o", "siren_progress_seconds=0.4", **environ)
        lines = on.everything
    assert not any(LIVE.search(row) for row in seen)
    assert sum(bool(PLAIN.fullmatch(line)) for line in lines) >= 2


@pytest.mark.parametrize("args", [[], ["-v"]], ids=["letters", "verbose"])
def test_a_log_gets_lines_of_their_own(
    distributed: Project, slow: Project, args: list[str]
) -> None:
    result = distributed.run(*NAMED, "-o", "siren_progress_seconds=0.3", *args)
    result.assert_outcomes(passed=8, failed=2)
    lines = [line for line in result.outlines if "siren: " in line]
    assert len(lines) >= 3
    assert [line for line in lines if not PLAIN.fullmatch(line)] == []
    done = [int(line.split()[1].partition("/")[0]) for line in lines]
    assert done == sorted(done)
    assert done[-1] > 2


@pytest.mark.inside
def test_a_short_session_gets_none(slow: Project) -> None:
    result = slow.run(*NAMED)
    assert "siren: " not in str(result.stdout)


@pytest.mark.inside
@pytest.mark.parametrize("given", ["0", "nan", "often"])
def test_a_period_that_is_none_is_refused(slow: Project, given: str) -> None:
    result = slow.run("-o", f"siren_progress_seconds={given}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [f"ERROR: siren_progress_seconds must be a number of seconds above 0, not {given!r}"]
    )
