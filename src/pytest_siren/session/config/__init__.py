"""Options, ini keys, the command line and the stash of evaluations."""
