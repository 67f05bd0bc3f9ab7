"""Archives that tests unpack."""

from __future__ import annotations

import tarfile
from pathlib import Path


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack ``archive`` into ``folder``, and return that."""
    with tarfile.open(archive) as packed:
        # Before Python 3.11.4 there are no filters.
        if hasattr(tarfile, "data_filter"):
            packed.extraction_filter = tarfile.data_filter
        packed.extractall(folder)
    return folder
