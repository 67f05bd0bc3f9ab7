"""The table of runs, read from the indexes of jobs."""
