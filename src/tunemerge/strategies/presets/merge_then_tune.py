"""Merge first: one tuning that starts from combined knowledge."""

from tunemerge.strategies.setting import Answer, Setting
from tunemerge.strategies.strategy import strategy


@strategy("merge_then_tune", role="order", paper="2204.03044", merges=True)
def merge_then_tune(s: Setting) -> Answer:
    """Merge what already exists, then spend the whole budget tuning the merge."""
    return s.tune(s.merge(list(s.pool.values())), s.mix, s.budget)
