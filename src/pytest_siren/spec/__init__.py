"""Eval files: reading, checking and turning them into jobs."""
