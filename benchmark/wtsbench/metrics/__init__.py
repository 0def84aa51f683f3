"""Metrics from stored predictions and scores."""
