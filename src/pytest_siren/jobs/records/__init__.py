"""What the files of a job hold."""
