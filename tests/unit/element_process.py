"""Stands in for the pytest of an element, and ends in the way that ``ELEMENT_PROCESS`` names.

What it does is in the order in which the real one does it; none of these ends can be had from it
on demand.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from pytest_siren.distribute.cluster.element import end_with_element
from pytest_siren.distribute.cluster.lines import ENDED
from pytest_siren.distribute.cluster.reports import ReportWriter


def main() -> int:
    folder, name = Path(sys.argv[1]), sys.argv[2]
    end_with_element(int(sys.argv[3]))
    ending = os.environ.get("ELEMENT_PROCESS", "")
    if ending == "broken":
        raise ModuleNotFoundError("No module named 'their_suite'\x1b[31m")
    reports = folder / "reports"
    reports.mkdir(exist_ok=True)
    (reports / f"{name}.jsonl").write_text(f"{os.getpid()}\n")
    match ending:
        case "reports":
            writer = ReportWriter(reports / f"{name}.jsonl")
            writer.write({"report": {"nodeid": "x"}})
            writer.close()
        case "reports nothing":
            writer = ReportWriter(reports / f"{name}.jsonl")
            writer.write(ENDED)
            writer.close()
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "sleeps":
            return _sleep(folder / f"{name}.ended")
        case "seen":
            submitit = [key for key in os.environ if key.startswith("SUBMITIT_")]
            (folder / "seen").write_text(f"{Path.cwd()} {submitit}")
    return 0


def _sleep(ended: Path) -> int:
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        ended.touch()
        return 2
    return 1


if __name__ == "__main__":
    sys.exit(main())
