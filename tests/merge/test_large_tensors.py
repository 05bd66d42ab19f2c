"""Tensors so large that a sample says first about where a threshold is: the same results as without one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tunemerge.merge.method import METHODS, SAMPLE
from tunemerge.testing.methods import by_kernel, by_reference, experts, reach

SHAPE = (4 * SAMPLE // 512 + 3, 512)
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("ties", {"density": [0.2, 0.5, 0.8]}),
    ("breadcrumbs", {"density": 0.5, "gamma": 0.01}),
    ("sce", {"select_topk": 0.3}),
    ("pcb", {"density": [0.2, 0.5, 0.8]}),
]


@pytest.mark.parametrize(("name", "given"), SETTINGS)
@pytest.mark.parametrize("ties", [False, True])
def test_kernel_and_reference_agree(name: str, given: dict[str, Any], ties: bool) -> None:
    method = METHODS[name]
    models, base = experts(method, SHAPE, "F32", ties)
    truth = by_reference(method, models, base, "F32", given)
    whole = by_kernel(method, models, base, "F32", given, block=1 << 17)
    assert (np.abs(whole - truth) <= 1e-6 * reach(method, models, base, given)).all()
    assert whole.tobytes() == by_kernel(method, models, base, "F32", given, block=1 << 13).tobytes()


@pytest.mark.parametrize(("name", "given"), SETTINGS)
def test_a_sample_that_misleads_changes_nothing(name: str, given: dict[str, Any]) -> None:
    """What is sampled has moved little, all else far: no threshold is where the sample says."""
    method = METHODS[name]
    models, base = experts(method, SHAPE, "F32")
    from tunemerge.merge.blocks import sample_pieces

    far = np.ones(base.size, bool)
    for start, end in sample_pieces(base.size):
        far[start:end] = False
    for model in models:
        flat = model.reshape(-1)
        flat[far] += 100 * (flat - base.reshape(-1))[far]
    truth = by_reference(method, models, base, "F32", given)
    found = by_kernel(method, models, base, "F32", given, block=1 << 17)
    assert (np.abs(found - truth) <= 1e-6 * reach(method, models, base, given)).all()
