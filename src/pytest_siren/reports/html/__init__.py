"""The report as one HTML page, with the transcripts inside it or in a folder beside it."""
