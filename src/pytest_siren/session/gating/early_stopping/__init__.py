"""``--gate-stop``: no further runs once every gate is decided."""
