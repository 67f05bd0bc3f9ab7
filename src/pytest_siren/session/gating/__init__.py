"""Evaluates gates on the controller; ``early_stopping`` ends sampling once they are settled."""
