"""No merge: one model tuned on one task after the other."""

from tunemerge.strategies.setting import Answer, Setting, allot
from tunemerge.strategies.strategy import strategy


@strategy("sequential", role="alternative")
def sequential(s: Setting) -> Answer:
    """Tune the base on each task's adapt rows, one task after the other."""
    model = s.base
    budgets = allot(s.budget, [r.size for r in s.adapt.values()])
    for turn, ((task, rows), steps) in enumerate(zip(s.adapt.items(), budgets, strict=True), 1):
        model = s.tune(model, rows, steps, name=f"sequential {turn}/{len(budgets)}, {task}")
    return model
