"""Low-rank adapters: a model seen through one, the adapter of a difference, and merging adapters as adapters."""
