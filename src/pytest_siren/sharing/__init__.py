"""What the processes of one session share: a stop sign, counters, rate limits."""
