"""Rates and their uncertainty, as pure functions."""
