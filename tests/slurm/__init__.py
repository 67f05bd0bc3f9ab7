"""A Slurm cluster on this machine, for tests."""
