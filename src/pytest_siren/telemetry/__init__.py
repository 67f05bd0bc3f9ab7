"""Traces of runs: spans and evaluation events, sent to a collector and written to the terminal."""
