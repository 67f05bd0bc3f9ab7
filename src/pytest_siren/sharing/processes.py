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
