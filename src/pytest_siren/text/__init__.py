"""Text for terminals and readers, used by every layer."""
