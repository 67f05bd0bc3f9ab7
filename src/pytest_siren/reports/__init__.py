"""Reports of recorded jobs, for people and for other tools."""
