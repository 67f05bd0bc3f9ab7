"""Environments, one module each."""
