"""Agents: the loops that call models and tools."""
