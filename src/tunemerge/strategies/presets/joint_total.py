"""No merge, no pool: all rows and all of the cost in one tuning."""

from tunemerge.strategies.setting import Answer, Setting, UnavailableError
from tunemerge.strategies.strategy import strategy


@strategy("joint_total", spends="more")
def joint_total(s: Setting) -> Answer:
    """Tune the base on source and adapt rows together, with what the pool cost added to the budget."""
    if not s.source:
        raise UnavailableError("no source rows: the pool was made elsewhere")
    rows = sum(s.source.values(), s.mix)
    return s.tune(s.base, rows, s.pool_examples // s.batch_size + s.budget)
