"""The merge of the pool as it is."""

from tunemerge.strategies.setting import Answer, Setting, UnavailableError
from tunemerge.strategies.strategy import strategy


@strategy("merge_only", paper="2203.05482", merges=True, spends="nothing")
def merge_only(s: Setting) -> Answer:
    """Merge the pool and tune nothing."""
    if len(s.pool) < 2:
        raise UnavailableError("the pool has fewer than two models")
    return s.merge(list(s.pool.values()))
