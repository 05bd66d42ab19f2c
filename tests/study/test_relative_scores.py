"""A score beside that of the task's own expert."""

from types import SimpleNamespace

import pytest

from tunemerge.results import Interval, TaskScore
from tunemerge.study.scores import _relative


@pytest.mark.parametrize(("sign", "share"), [(1.0, 1.25), (-1.0, None)])
def test_a_share_of_the_expert_is_told_only_where_more_is_better(sign, share):
    def scored(value):
        return TaskScore(score=Interval(value=value, low=value, high=value), metrics={})

    plan = SimpleNamespace(rows=SimpleNamespace(tasks={"a": SimpleNamespace(role="target")}))
    found = _relative(scored(1.0), "a", SimpleNamespace(), {"experts": {"a": scored(0.8)}}, plan, sign)
    assert found.normalised == share and found.forgetting is None
