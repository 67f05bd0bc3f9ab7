"""Jobs of runs that other tools recorded."""
