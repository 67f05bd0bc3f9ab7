"""Pages and files that people and other tools read, made of recorded jobs."""
