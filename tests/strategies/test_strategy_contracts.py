"""The contract suite over every registered strategy, and what it finds in strategies that break it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tunemerge.strategies.setting import Setting
from tunemerge.strategies.strategy import STRATEGIES, Strategy
from tunemerge.testing import strategies as suite


@pytest.mark.parametrize("name", STRATEGIES.names())
@pytest.mark.parametrize("contract", suite.CONTRACTS, ids=lambda c: c.__name__)
def test_contract(name, contract):
    contract(STRATEGIES[name])


def strategy(build, **more) -> Strategy:
    given = dict(role="control", paper=None, merges=False, each_of_pool=False, spends="budget")
    return Strategy("mine", build, **{**given, **more})


def half(s: Setting):
    "Half of the budget."
    return s.tune(s.base, s.mix, s.budget // 2)


def peeking(s: Setting):
    "Tuned on validation rows."
    return s.tune(s.base, replace(s.mix, train=s.mix.validation), s.budget)


def crashing(s: Setting):
    "Takes the first of the pool, whether there is one or not."
    return s.tune(next(iter(s.pool.values())), s.mix, s.budget)


class Counting:
    """A strategy with a memory."""

    calls = 0

    def __call__(self, s: Setting):
        self.calls += 1
        return s.tune(s.base, s.mix, s.budget, head_only=self.calls % 2 == 0)


BROKEN = {
    "half": (strategy(half), suite.spends_what_it_says),
    "spends": (strategy(STRATEGIES["joint"].build, spends="nothing"), suite.spends_what_it_says),
    "merges": (strategy(STRATEGIES["joint"].build, merges=True), suite.merges_where_it_says),
    "no merges": (strategy(STRATEGIES["merge_then_tune"].build), suite.merges_where_it_says),
    "peeking": (strategy(peeking), suite.trains_on_training_rows),
    "crashing": (strategy(crashing), suite.says_why_it_cannot_be_had),
    "counting": (strategy(Counting()), suite.reads_the_same_graph_twice),
    "long": (strategy(lambda s: s.base, spends="nothing"), suite.describes_itself),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_found(what):
    broken, contract = BROKEN[what]
    with pytest.raises((AssertionError, StopIteration)):
        contract(broken)
