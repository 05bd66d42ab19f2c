"""No merge: one model tuned on everything."""

from tunemerge.strategies.setting import Answer, Setting
from tunemerge.strategies.strategy import strategy


@strategy("joint", role="alternative")
def joint(s: Setting) -> Answer:
    """Tune the base on all adapt rows together."""
    return s.tune(s.base, s.mix, s.budget)
