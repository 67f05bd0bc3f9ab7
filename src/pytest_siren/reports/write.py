"""Puts a report into its place, whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from pytest_siren.jobs.folders import make_folder
from pytest_siren.jobs.redact import ENVIRONMENT


def write_whole(target: Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``target``, whose folder is made if need be. Raises ``OSError``.

    Long secrets of the environment are replaced, wherever they come from. A reader finds the old
    file or the new one. What is no regular file, such as ``/dev/stdout``, is written into.
    """
    data = ENVIRONMENT.strong(text).encode("utf-8", "backslashreplace")
    make_folder(target.parent)
    if target.exists() and not target.is_file():
        target.write_bytes(data)
        return
    made = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}")
    try:
        made.write_bytes(data)
        os.replace(made, target)
    except OSError:
        made.unlink(missing_ok=True)
        raise
