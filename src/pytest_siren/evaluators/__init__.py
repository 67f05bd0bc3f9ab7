"""Evaluators that eval files name by type, for benign and malicious tasks.

``choice`` defines the union of their configurations, and the type of a task's evaluators.
"""
