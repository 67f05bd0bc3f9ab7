"""Text for terminals and people: what every layer writes with."""
