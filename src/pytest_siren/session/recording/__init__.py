"""Writes the records of runs, in every process that executes some."""
