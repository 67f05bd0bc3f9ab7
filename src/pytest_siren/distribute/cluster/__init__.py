"""Sessions whose processes are jobs of a cluster: ``--slurm`` and ``--siren-executor``."""
