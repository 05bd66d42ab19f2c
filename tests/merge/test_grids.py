"""Candidates of a search treat all models alike."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from tunemerge.merge.method import METHODS


def per_model(given: dict[str, Any], n_models: int) -> list[tuple[Any, ...]]:
    """What each model gets, model by model."""
    lists = [value if isinstance(value, list) else [value] * n_models for value in given.values()]
    return list(zip(*lists, strict=True))


@pytest.mark.parametrize("name", ["linear", "karcher", "multislerp", "task_arithmetic", "ties"])
@pytest.mark.parametrize("n_models", [2, 3, 4])
@pytest.mark.parametrize("k", range(1, 12))
def test_another_order_of_the_models_is_tried_with_the_same_settings(name: str, n_models: int, k: int) -> None:
    tried = [per_model(given, n_models) for given in METHODS[name].grid(n_models, k)]
    assert 1 <= len(tried) <= k and len(tried) > k - n_models
    for order in permutations(range(n_models)):
        assert sorted([row[i] for i in order] for row in tried) == sorted(tried)


def test_three_models_and_three_candidates_are_averaged_and_four_favour_each_once() -> None:
    assert METHODS["linear"].grid(3, 3) == [{"weight": [1.0, 1.0, 1.0]}]
    assert [g["weight"] for g in METHODS["linear"].grid(3, 4)][1:] == [[2, 1, 1], [1, 2, 1], [1, 1, 2]]
