"""Proposers that ship, one module each."""
