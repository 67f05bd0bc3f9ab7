"""Evaluates gates on the controller; ``early_stopping`` stops runs once they are decided."""
