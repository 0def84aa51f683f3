"""Scorers, which score the texts of trials outside the sandbox. Imports no torch."""
