"""Metrics that ship, beside those of classes and values in `stats/metrics.py`: one file for each kind of prediction."""
