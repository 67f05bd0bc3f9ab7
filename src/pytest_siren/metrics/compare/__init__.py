"""Paired comparisons of two tables of runs."""
