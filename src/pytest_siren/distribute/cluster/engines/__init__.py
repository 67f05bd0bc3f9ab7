"""What starts elements: Slurm, processes of this machine, and whatever else is installed."""
