"""Scorers of generated text, outside the sandbox: what a trial wrote gets its scores here. Imports no torch."""
