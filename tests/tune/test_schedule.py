from __future__ import annotations

import pytest

from tunemerge.tune.schedule import evaluation_steps, learning_rate_factor


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("total", [1, 2, 7, 100])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.9])
def test_no_step_is_spent_at_rate_zero(kind: str, total: int, warmup: float) -> None:
    factors = [learning_rate_factor(step, total, warmup, kind) for step in range(total)]
    assert all(0 < factor <= 1 for factor in factors)
    assert max(factors) == 1


def test_known_values() -> None:
    assert [learning_rate_factor(s, 10, 0.2, "linear") for s in (0, 1, 2, 6, 9)] == pytest.approx(
        [1 / 3, 2 / 3, 1, 0.5, 0.125]
    )
    assert learning_rate_factor(6, 10, 0.2, "cosine") == pytest.approx(0.5)
    assert learning_rate_factor(9, 10, 0.2, "constant") == 1


def test_evaluations_are_even_and_end_with_the_last_step() -> None:
    assert evaluation_steps(100, 4) == [25, 50, 75, 100]
    assert evaluation_steps(10, 4) == [2, 5, 8, 10]
    assert evaluation_steps(2, 4) == [1, 2]
    assert evaluation_steps(1, 1) == [1]
