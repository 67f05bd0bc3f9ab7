"""Evaluators that an eval file names by type, usable for benign and malicious tasks alike.

One module per idea; ``choice`` has the type of them all, ``named`` that of a task's evaluators.
"""
