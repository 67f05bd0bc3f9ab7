"""Finds an earlier session, and what it recorded."""
