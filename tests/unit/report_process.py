"""A process that writes reports until it is killed: ``FOLDER NAME BYTES``."""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

from pytest_siren.distribute.cluster.reports import ReportWriter


def main() -> None:
    folder, name, size = sys.argv[1:]
    writer = ReportWriter(Path(folder) / f"{name}.jsonl")
    for number in count():
        writer.write({"number": number, "text": "ä" * int(size)})
        # What was reported is known to have been written.
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
