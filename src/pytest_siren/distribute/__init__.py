"""Executors: how the runs of a session get to its processes."""
