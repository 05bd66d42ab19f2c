"""Integer tensors that only some models have: copied from those that have them, never a reason to refuse."""

import numpy as np
import pytest

from tunemerge.errors import UsageError
from tunemerge.findings import FindingsError
from tunemerge.merge.memory import merge_state

IDS = np.arange(4, dtype=np.int64)


def weights(value, **more):
    return {"w": np.full(8, value, np.float32), **more}


@pytest.mark.parametrize("holders", [(0,), (1,), (0, 1), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("base", [None, weights(0.0), weights(0.0, ids=IDS)])
def test_buffers_come_from_whoever_has_them(holders, base):
    states = [weights(float(i), **({"ids": IDS} if i in holders else {})) for i in range(3)]
    merged = merge_state("linear" if base is None else "task_arithmetic", states, base)
    assert merged["ids"].dtype == np.int64 and merged["ids"].tolist() == IDS.tolist()
    assert merged.keys() == {"w", "ids"}


def test_a_buffer_that_only_the_base_has_is_left_out():
    assert merge_state("task_arithmetic", [weights(1.0), weights(2.0)], weights(0.0, ids=IDS)).keys() == {"w"}


def test_buffers_must_be_the_same_where_they_are():
    with pytest.raises(UsageError, match="ids"):
        merge_state("linear", [weights(1.0), weights(1.0, ids=IDS), weights(2.0, ids=IDS + 1)])


def test_weights_that_one_lacks_are_still_refused():
    more = np.zeros(2, np.float32)
    with pytest.raises(FindingsError, match="lacks 1 of the 2 tensors"):
        merge_state("linear", [weights(1.0, bias=more), weights(2.0)])
    with pytest.raises(FindingsError, match="model 1: lacks 1 of the 3 tensors"):
        merge_state("linear", [weights(1.0, ids=IDS), weights(2.0, bias=more)])
