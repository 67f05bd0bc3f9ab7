"""Other processes of this machine."""

from __future__ import annotations

import os
import socket


def host() -> str:
    """Return the name of this machine, as part of a file's name."""
    return socket.gethostname().replace("/", "_")


def lives(pid: int) -> bool:
    """Tell whether there is a process of that id, whoever's it is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    except OverflowError:
        return False
    return True


def started_at(pid: int) -> str | None:
    """Return when a process was started, as its machine counts; ``None`` if that is unknown.

    With the id it tells a process from a later one that was given the same id.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # The second field, the name in parentheses, may hold anything.
            return file.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None
