"""Eval files become pytest items."""
