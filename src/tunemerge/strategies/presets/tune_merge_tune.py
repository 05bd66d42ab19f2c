"""The hybrid: specialise, combine, polish."""

from tunemerge.strategies.setting import Answer, Setting
from tunemerge.strategies.strategy import strategy


@strategy("tune_merge_tune", role="order", paper="2504.00698", merges=True)
def tune_merge_tune(s: Setting) -> Answer:
    """Tune each model with half of the budget, merge, and tune the merge with the other half."""
    first = s.budget // 2
    return s.tune(s.merge(s.tune_each(first)), s.mix, s.budget - first)
