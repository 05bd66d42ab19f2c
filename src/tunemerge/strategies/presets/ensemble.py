"""The tuned models side by side, their predictions averaged."""

from tunemerge.strategies.setting import Answer, Ensemble, Setting, UnavailableError
from tunemerge.strategies.strategy import strategy


@strategy("ensemble")
def ensemble(s: Setting) -> Answer:
    """Mean of the predictions of the models that tune_then_merge would merge."""
    models = s.tune_each(s.budget)
    if len(models) < 2:
        raise UnavailableError("there is one model only")
    return Ensemble(tuple(models))
