"""Baselines: the runs that others are compared with."""
