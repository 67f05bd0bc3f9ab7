"""What a session with evaluations begins with."""
