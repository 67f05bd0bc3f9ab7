"""The domain: tasks, environments, agent states, attacks and one run. Knows nothing of pytest."""
