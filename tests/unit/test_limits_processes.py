"""One limiter for all processes of a session."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pytest_siren.models.ratelimit.limiter import RateLimiters
from pytest_siren.models.ratelimit.shared_cells import Cell
from pytest_siren.sharing.state import Board

ROOT = Path(__file__).parents[2]


def two_processes(
    board: Path, requests: int, latency: float, rpm: float
) -> list[list[list[float]]]:
    """Return what each of two processes took (1) and gave back (-1), and when."""
    command = [sys.executable, "-m", "tests.unit.limits_process"]
    command += [str(board), str(requests), str(latency), str(rpm)]
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    return [[list(map(float, line.split())) for line in text.splitlines()] for text in outputs]


def most_at_once(events: list[list[float]]) -> int:
    held = most = 0
    for _, change in sorted(events):
        held += int(change)
        most = max(most, held)
    return most


def test_the_adaptive_limit_holds_for_both_and_both_get_their_share(tmp_path: Path) -> None:
    board = Board.open(tmp_path / "board")
    # The limit stays where it is: nobody reports a success.
    cells = board.key("openai:gpt-5")
    cells[Cell.LIMIT], cells[Cell.RAISED_AT] = 3.0, 1.0
    logs = two_processes(board.path, 12, 0.1, 0)
    assert most_at_once(logs[0] + logs[1]) == 3
    assert [len(log) for log in logs] == [24, 24]
    # While both wanted places, neither got much more than half of them.
    end = min(log[-1][0] for log in logs)
    began = max(log[0][0] for log in logs)
    taken = [sum(1 for at, change in log if change > 0 and began <= at <= end) for log in logs]
    assert max(taken) <= 4 * min(taken) + 3
    board.close()


def test_a_single_place_goes_from_one_process_to_the_other(tmp_path: Path) -> None:
    board = Board.open(tmp_path / "board")
    cells = board.key("openai:gpt-5")
    cells[Cell.LIMIT], cells[Cell.RAISED_AT] = 1.0, 1.0
    logs = two_processes(board.path, 10, 0.02, 0)
    assert most_at_once(logs[0] + logs[1]) == 1
    first, last = logs[0][0][0], logs[0][-1][0]
    assert any(first < at < last for at, _ in logs[1])
    board.close()


def test_a_cap_a_minute_is_one_for_both(tmp_path: Path) -> None:
    board = Board.open(tmp_path / "board")
    logs = two_processes(board.path, 15, 0.0, 600)
    taken = sorted(at for log in logs for at, change in log if change > 0)
    # 10 a second, of which one second's may come at once.
    assert len(taken) == 30
    assert taken[-1] - taken[0] >= 1.9
    board.close()


def test_what_a_dead_process_held_is_free(tmp_path: Path) -> None:
    board = Board.open(tmp_path / "board")
    limiters = RateLimiters(board, ceiling=4, processes=2)
    limiters.limiter("openai:gpt-5")
    code = (
        "import sys; from pathlib import Path; from pytest_siren.sharing.state import Board;"
        "key = Board.open(Path(sys.argv[1])).key('openai:gpt-5');"
        "key.in_flight, key.waiting = 5, 2;"
        "print(key.total_in_flight(), key.total_waiting())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(board.path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "5 2\n"
    key = board.key("openai:gpt-5")
    assert (key.total_in_flight(), key.total_waiting()) == (0, 0)
    board.close()
