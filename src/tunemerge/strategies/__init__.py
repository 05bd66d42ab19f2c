"""Strategies: the orders in which merging and tuning can be combined, as functions that build steps."""
