"""Names in a folder that several hosts share, as they are now."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def current_names(folder: Path) -> list[str]:
    """Return the names of the entries of ``folder``. Raises ``OSError``.

    The client of a network file system may list a folder from a cache that is up to a minute old
    (nfs(5): ``acdirmin``, ``acdirmax``). A change of the folder's attributes makes it compare them
    with the server's, and list anew when somebody has changed the folder.
    """
    with suppress(PermissionError):  # One who may not write sees what the cache has.
        os.utime(folder)
    return os.listdir(folder)
