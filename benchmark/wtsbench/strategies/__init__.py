"""Strategies: how a strong student learns from weak labels. One file each; `base` defines the interface."""
