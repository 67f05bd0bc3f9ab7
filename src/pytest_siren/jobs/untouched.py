"""Jobs in which nothing has been recorded."""

from __future__ import annotations

import shutil
from pathlib import Path

from pytest_siren.jobs.records import CONFIG_FILE, INDEX_FILE

_MADE_WITH_IT = frozenset({CONFIG_FILE, INDEX_FILE})


def remove_if_untouched(job: Path) -> bool:
    """Remove the folder ``job`` if there is no attempt in it, nor anything of others; tell if so.

    One that a process is still writing into has its mark, and stays.
    """
    try:
        found = {path.name: path.stat().st_size for path in job.iterdir()}
        if CONFIG_FILE not in found or found.get(INDEX_FILE) or found.keys() - _MADE_WITH_IT:
            return False
        shutil.rmtree(job)
    except OSError:
        # It is no more than in the way: ``siren jobs list`` names it.
        return False
    return True
