"""Models: resolves names to exact weights, and fetches those into a folder of this machine. Imports no torch."""
