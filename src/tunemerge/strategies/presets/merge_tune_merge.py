"""Merge, tune a copy of the merge on each task by itself, merge again: one round, no rows pooled."""

from tunemerge.strategies.setting import Answer, Setting, UnavailableError
from tunemerge.strategies.strategy import strategy


@strategy("merge_tune_merge", role="order", paper="2212.01378", merges=True, for_private=True)
def merge_tune_merge(s: Setting) -> Answer:
    """Merge the pool, tune a copy of it on each task with its share of the budget, and merge the copies."""
    if s.target is not None:
        raise UnavailableError("there is one target: merge_then_tune does the same with one copy")
    return s.merge(s.tune_each(s.budget, start=s.merge(list(s.pool.values()))))
