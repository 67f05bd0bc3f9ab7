"""Shared by the project's own tests; ``evals/`` needs nothing from here."""

pytest_plugins = ["pytester"]
