"""Leases of blocks of runs: by real processes that are killed, and what they cost."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_siren.distribute.cluster import leases
from pytest_siren.distribute.cluster.leases import MOST_DEATHS, Block, Lease, Leases, blocks

ROOT = Path(__file__).parents[2]


# Blocks.


@given(st.integers(0, 5_000), st.integers(1, 250), st.integers(1, 300))
def test_blocks_cover_every_run_once_and_become_smaller(
    count: int, processes: int, window: int
) -> None:
    cut = blocks(count, processes, window)
    assert [run for block in cut for run in range(block.start, block.stop)] == list(range(count))
    assert [block.number for block in cut] == list(range(len(cut)))
    sizes = [block.stop - block.start for block in cut]
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes, default=1) <= max(1, window // 2)
    # What is left when a block is leased is enough for all others to be busy meanwhile.
    left = [count - block.start for block in cut]
    assert all(
        size == 1 or size * 8 * processes < rest + 8 * processes
        for size, rest in zip(sizes, left, strict=True)
    )


def test_a_million_runs_on_200_processes_need_few_blocks() -> None:
    cut = blocks(1_000_000, 200, 64)
    assert len(cut) < 40_000
    assert [block.stop - block.start for block in cut[-200:]] == [1] * 200


# One process, and what it knows of others.


def everybody(owner: str) -> bool:
    return True


def leases_of(
    folder: Path,
    owner: str = "a",
    alive: Callable[[str], bool] = everybody,
    offset: int = 0,
    stride: int = 1,
    count: int = 6,
) -> Leases:
    cut = [Block(number, number, number + 1) for number in range(count)]
    return Leases(folder, cut, owner, alive, offset, stride)


def numbers_of(taking: Leases, count: int) -> list[int]:
    return [block.number for _ in range(count) if (block := taking.take()) is not None]


def numbers(taking: Leases) -> list[int]:
    found = []
    while (block := taking.take()) is not None:
        found.append(block.number)
    return found


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LOOK", 0.0)
    monkeypatch.setattr(leases, "_SHARE", 1e9)


def test_each_process_begins_with_blocks_of_its_own(tmp_path: Path) -> None:
    first, second, third = (
        leases_of(tmp_path, name, offset=at, stride=3, count=9) for at, name in enumerate("abc")
    )
    assert [numbers_of(one, 1) for one in (first, second, third)] == [[0], [1], [2]]
    assert numbers_of(first, 2) == [3, 6]
    # Every third of what is free now, which is 4, 5, 7 and 8.
    assert numbers_of(first, 2) == [4, 8]
    assert numbers_of(second, 1) == [7]
    assert numbers_of(third, 1) == [5]
    assert numbers(first) == numbers(second) == numbers(third) == []


def test_what_was_taken_before_this_process_came_is_not_taken_again(tmp_path: Path) -> None:
    assert numbers(leases_of(tmp_path, count=3)) == [0, 1, 2]
    assert numbers(leases_of(tmp_path, "b")) == [3, 4, 5]


@pytest.mark.usefixtures("at_once")
def test_a_block_of_the_dead_is_taken_over_once(tmp_path: Path) -> None:
    dead = leases_of(tmp_path, "dead", count=2)
    done, left = dead.take(), dead.take()
    assert done is not None
    dead.done(done)

    def alive(owner: str) -> bool:
        return owner != "dead"

    first, second = (leases_of(tmp_path, name, alive, count=2) for name in "ab")
    assert first.take_over() == Lease(Block(1, 1, 2), 1)
    assert left == Block(1, 1, 2)
    assert (first.take_over(), second.take_over()) == (None, None)
    assert first.outstanding() == second.outstanding() == [left]
    first.done(left)
    assert first.outstanding() == second.outstanding() == []


@pytest.mark.usefixtures("at_once")
def test_two_that_see_the_same_death_take_its_block_over_once(tmp_path: Path) -> None:
    leases_of(tmp_path, "dead", count=1).take()
    dead = set[str]()
    first, second = (
        leases_of(tmp_path, name, lambda owner: owner not in dead, count=1) for name in "ab"
    )
    dead.add("dead")
    assert first.outstanding() == second.outstanding()  # Both have looked.
    assert [lease is not None for lease in (first.take_over(), second.take_over())] == [True, False]


@pytest.mark.usefixtures("at_once")
def test_a_block_that_three_died_with_is_lost_and_listed(tmp_path: Path) -> None:
    def nobody(owner: str) -> bool:
        return False

    assert leases_of(tmp_path, "p0", nobody, count=1).take() is not None
    for deaths in range(1, MOST_DEATHS):
        lease = leases_of(tmp_path, f"p{deaths}", nobody, count=1).take_over()
        assert lease == Lease(Block(0, 0, 1), deaths)
    after = leases_of(tmp_path, "p3", nobody, count=1)
    assert after.take_over() is None
    assert (after.lost(), after.outstanding()) == ([Block(0, 0, 1)], [])


@pytest.mark.usefixtures("at_once")
def test_owners_that_ended_in_order_do_not_count_as_deaths(tmp_path: Path) -> None:
    def nobody(owner: str) -> bool:
        return False

    def leases(owner: str) -> Leases:
        cut = [Block(0, 0, 1)]
        return Leases(tmp_path, cut, owner, nobody, died=lambda owner: owner == "killed")

    assert leases("killed").take() is not None
    for number in range(2 * MOST_DEATHS):
        assert leases(f"preempted{number}").take_over() == Lease(Block(0, 0, 1), 1)
    assert leases("follower").lost() == []


@pytest.mark.usefixtures("at_once")
def test_a_block_that_came_to_its_end_after_all_is_not_lost(tmp_path: Path) -> None:
    alive = {"p0": False, "p1": False, "p2": False}
    owners = [leases_of(tmp_path, name, alive.__getitem__, count=1) for name in alive]
    assert owners[0].take() is not None
    assert owners[1].take_over() is not None
    lease = owners[2].take_over()
    assert lease is not None
    follower = leases_of(tmp_path, "controller", alive.__getitem__, count=1)
    assert follower.lost() == [lease.block]
    owners[2].done(lease.block)
    assert (follower.lost(), follower.outstanding()) == ([], [])


def test_a_lease_whose_answer_got_lost_is_the_owners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server of NFS that is asked twice says that the link is there."""
    create = os.symlink

    def answered_twice(target: str, path: Path) -> None:
        create(target, path)
        raise FileExistsError(17, "File exists", str(path))

    monkeypatch.setattr(os, "symlink", answered_twice)
    assert numbers(leases_of(tmp_path, count=2)) == [0, 1]


def test_a_listing_as_it_was_long_ago_costs_failures_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "current_names", lambda folder: [])
    first, second = leases_of(tmp_path), leases_of(tmp_path, "b")
    assert numbers_of(first, 4) == [0, 1, 2, 3]
    assert numbers(second) == [4, 5]
    assert numbers(first) == []


# What it costs.


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Count the calls that go to the file server."""
    calls = Counter[str]()

    def counting(name: str) -> Callable[..., Any]:
        original = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            calls[name] += 1
            return original(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        for name in ("symlink", "readlink", "listdir", "utime", "open", "stat", "rename"):
            patch.setattr(os, name, counting(name))
        yield calls


def test_many_processes_hardly_ever_try_in_vain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = blocks(6_000, 100, 32)
    with counted(monkeypatch) as calls:
        all_of_them = [Leases(tmp_path, cut, f"p{at}", everybody, at, 100) for at in range(100)]
        chance = random.Random(1)
        working = list(range(100))
        taken = list[int]()
        while working:
            # Some are twice as quick as others.
            at = chance.choice(working[: len(working) // 10] + working)
            block = all_of_them[at].take()
            if block is None:
                working.remove(at)
            else:
                taken.append(block.number)
                all_of_them[at].done(block)
    assert sorted(taken) == [block.number for block in cut]
    # Each block is leased and done; half as many are tried in vain, where runs take no time.
    assert calls["symlink"] <= len(cut) * 2.5
    assert calls["readlink"] == calls["symlink"] - 2 * len(cut)
    assert calls["listdir"] == calls["utime"] <= 100 * 8
    assert set(calls) <= {"symlink", "readlink", "listdir", "utime", "stat"}


def test_who_waits_looks_once_in_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = leases_of(tmp_path, "b", count=2)
    assert numbers(leases_of(tmp_path, count=2)) == [0, 1]
    assert numbers(waiting) == []
    waiting.outstanding()
    with counted(monkeypatch) as calls:
        for _ in range(1_000):
            assert (waiting.take(), waiting.take_over(), waiting.lost()) == (None, None, [])
            assert len(waiting.outstanding()) == 2
    assert calls["listdir"] <= 1


# Processes that are killed.


def started(
    folder: Path, logs: Path, offset: int, stride: int, count: int
) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.unit.lease_process", str(folder), str(logs)]
    command += [str(offset), str(stride), str(count), "16"]
    return subprocess.Popen(command, cwd=ROOT, text=True)


def waits_until_up(process: subprocess.Popen[str], logs: Path) -> None:
    log = logs / str(process.pid)
    while not (log.exists() and log.stat().st_size):
        assert process.poll() is None
        time.sleep(0.005)


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_any_moment_no_run_is_lost_and_none_executed_by_two(
    tmp_path: Path, seed: int
) -> None:
    folder, logs = tmp_path / "leases", tmp_path / "logs"
    logs.mkdir()
    chance, stride, count = random.Random(seed), 5, 1_500
    processes = [started(folder, logs, at, stride, count) for at in range(stride)]
    for process in processes:
        waits_until_up(process, logs)
    (logs / "go").touch()
    killed: dict[str, float] = {}
    for _ in range(4):
        time.sleep(chance.uniform(0.0, 0.15))
        at = chance.randrange(stride)
        if processes[at].poll() is None:
            processes[at].kill()
            processes[at].wait()
            killed[str(processes[at].pid)] = time.monotonic()
            # In its place comes another one, as after a requeue.
            processes[at] = started(folder, logs, at, stride, count)
    assert [process.wait(60) for process in processes] == [0] * stride
    assert len(killed) >= 2

    begun = dict[int, list[tuple[float, str]]]()
    finished, executed = Counter[int](), Counter[int]()
    for log in logs.glob("[0-9]*"):
        for kind, number, *moment in (
            line.split() for line in log.read_text().splitlines() if line != "up"
        ):
            if kind == "begins":
                begun.setdefault(int(number), []).append((float(moment[0]), log.name))
            elif kind == "run":
                executed[int(number)] += 1
            else:
                finished[int(number)] += 1
    cut = blocks(count, stride, 16)
    lost = set(range(len(cut))) - set(finished)
    for block in cut:
        owners = sorted(begun[block.number])
        # Whoever had it before was dead when the next one began.
        for (_, owner), (moment, _) in pairwise(owners):
            assert killed[owner] <= moment
        assert len(owners) <= MOST_DEATHS
        assert finished[block.number] <= 1
        if block.number in lost:
            assert all(owner in killed for _, owner in owners)
            if (folder / f"{block.number}.done").exists():
                continue  # Its last owner was killed before it could note that here.
            assert len([*folder.glob(f"{block.number}.*")]) == MOST_DEATHS
        else:
            assert all(1 <= executed[run] <= len(owners) for run in range(block.start, block.stop))
    undone = [number for number in lost if not (folder / f"{number}.done").exists()]
    assert len(undone) <= 1
