"""Each model of the pool alone: untuned, tuned with the whole budget, and the best of the tuned."""

from tunemerge.strategies.setting import Answer, PerTask, Setting, UnavailableError
from tunemerge.strategies.strategy import strategy


@strategy("expert", each_of_pool=True, spends="nothing")
def expert(s: Setting, name: str) -> Answer:
    """One model of the pool as it is, untuned."""
    return s.pool[name]


@strategy("expert_tuned", role="alternative", each_of_pool=True)
def expert_tuned(s: Setting, name: str) -> Answer:
    """One model of the pool, tuned with the whole budget on its own adapt rows."""
    return s.tune(s.pool[name], s.rows_for(name), s.budget)


@strategy("best_single", spends="more")
def best_single(s: Setting) -> Answer:
    """The best by validation of the pool's tuned models; every trial is charged."""
    if not s.pool:
        raise UnavailableError("there is no pool to choose from")
    return s.select({name: s.tune(m, s.rows_for(name), s.budget) for name, m in s.pool.items()})


@strategy("experts")
def experts(s: Setting) -> Answer:
    """Each task answered by its own tuned model: what a merge would keep at best."""
    if s.target is not None:
        raise UnavailableError("there is one target: its own model is what the other arms make")
    return PerTask(dict(zip(s.adapt, s.tune_each(s.budget), strict=True)))
