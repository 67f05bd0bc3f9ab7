"""Attacks that search: a proposer suggests texts, the agent is tried, and what it did goes back."""
