"""Models that need no key: local, recorded and controls."""
