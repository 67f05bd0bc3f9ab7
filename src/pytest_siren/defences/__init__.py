"""Defences: what stands between an agent and what it reads, is offered and calls."""
