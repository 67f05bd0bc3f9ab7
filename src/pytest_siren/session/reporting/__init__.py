"""What a session shows and writes: words, progress, the summary, report files."""
