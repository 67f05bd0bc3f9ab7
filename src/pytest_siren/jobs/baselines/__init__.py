"""What runs are compared with."""
