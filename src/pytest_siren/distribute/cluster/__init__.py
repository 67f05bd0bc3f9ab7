"""Sessions whose processes are jobs of a cluster: ``--slurm`` and ``--siren-executor``."""

ASSIGNMENT = "siren_assignment"
"""Key of ``config.workerinput`` under which a process of an element finds what it is to execute."""
