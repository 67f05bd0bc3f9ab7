"""Executes an element in a process that a Dask worker starts: ``python -m`` this FOLDER ID ELEMENT.

Of its own, because a thread of a worker can neither get signals nor end what it has started when
the worker is killed. The worker holds the other end of the standard input.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_siren.distribute.cluster.element import end_with_element
from pytest_siren.distribute.cluster.engines.results import result_of
from pytest_siren.distribute.cluster.engines.submission import element_of


def main(argv: Sequence[str]) -> None:
    """Execute the element that the JSON data ``ELEMENT`` describes; leave its result in FOLDER."""
    folder, name, element = argv
    end_with_element(sys.stdin.fileno())
    outcome: tuple[str, Any]
    try:
        outcome = ("success", element_of(json.loads(element))())
    except SystemExit:
        outcome = ("error", "was asked to end")
    path = result_of(Path(folder), name)
    temporary = path.with_suffix(".part")
    temporary.write_bytes(pickle.dumps(outcome))
    os.replace(temporary, path)


if __name__ == "__main__":
    main(sys.argv[1:])
