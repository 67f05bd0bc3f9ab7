"""Jobs and runs as pytest items."""
