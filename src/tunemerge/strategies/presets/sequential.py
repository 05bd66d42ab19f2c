"""No merge: one model tuned on one task after the other."""

from tunemerge.strategies.setting import Answer, Setting, allot
from tunemerge.strategies.strategy import strategy


@strategy("sequential", role="alternative")
def sequential(s: Setting) -> Answer:
    """Tune the base on each task's adapt rows, one task after the other."""
    model = s.base
    for rows, steps in zip(s.adapt.values(), allot(s.budget, [r.size for r in s.adapt.values()]), strict=True):
        model = s.tune(model, rows, steps)
    return model
