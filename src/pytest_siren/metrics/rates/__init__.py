"""Rates of runs, with their intervals."""
