"""``--gate-stop``: no more runs once every gate is settled."""
