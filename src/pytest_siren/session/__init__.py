"""The pytest side: collection, items, running, recording, summary."""
