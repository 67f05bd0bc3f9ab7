"""A process that executes the runs of a group: ``FOLDER LOGS OFFSET STRIDE COUNT WINDOW``.

It begins when there is a file ``go`` among the logs. In its own log it writes a line when it begins
a block, for each run, and when the block is done.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from pytest_siren.distribute.cluster import leases
from pytest_siren.distribute.cluster.leases import Block, Leases, blocks
from pytest_siren.sharing.state import lives


def alive(owner: str) -> bool:
    return lives(int(owner))


def main() -> None:
    folder, logs, *numbers = sys.argv[1:]
    offset, stride, count, window = map(int, numbers)
    leases.LOOK = 0.02
    owner = str(os.getpid())
    mine = Leases(Path(folder), blocks(count, stride, window), owner, alive, offset, stride)
    log = os.open(f"{logs}/{owner}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(*words: object) -> None:
        os.write(log, (" ".join(map(str, words)) + "\n").encode())

    def execute(block: Block) -> None:
        write("begins", block.number, time.monotonic())
        for run in range(block.start, block.stop):
            time.sleep(0.003)
            write("run", run)
        mine.done(block)
        write("done", block.number)

    write("up")
    while not Path(logs, "go").exists():
        time.sleep(0.002)
    while (block := mine.take()) is not None:
        execute(block)
    while mine.outstanding():
        if (lease := mine.take_over()) is not None:
            execute(lease.block)
        time.sleep(0.005)


if __name__ == "__main__":
    main()
