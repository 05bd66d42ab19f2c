"""tunemerge: merge then tune, or tune then merge? Both orders on your models and data, at equal cost."""
