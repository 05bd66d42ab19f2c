"""The base itself, with only a linear probe learnt."""

from tunemerge.strategies.setting import Answer, Setting
from tunemerge.strategies.strategy import strategy


@strategy("base_probe")
def base_probe(s: Setting) -> Answer:
    """The base with a linear probe: only the head is tuned, on all adapt rows."""
    return s.tune(s.base, s.mix, s.budget, head_only=True, name="linear probe")
