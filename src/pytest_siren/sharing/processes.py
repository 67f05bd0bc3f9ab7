"""Other processes of this machine."""

from __future__ import annotations

import os


def lives(pid: int) -> bool:
    """Tell whether there is a process of that id, whoever's it is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
