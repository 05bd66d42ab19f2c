"""Tune first: every model is specialised before it is combined."""

from tunemerge.strategies.setting import Answer, Setting
from tunemerge.strategies.strategy import strategy


@strategy("tune_then_merge", role="order", paper="2212.04089", merges=True)
def tune_then_merge(s: Setting) -> Answer:
    """Tune each model with its share of the budget, then merge."""
    return s.merge(s.tune_each(s.budget))
