"""False wins, coverage and power by simulation: benchmarks/null_studies.py, in seconds."""

import importlib.util
import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

from tunemerge.stats.components import contrast
from tunemerge.stats.metrics import METRICS
from tunemerge.stats.predictions import Predictions
from tunemerge.stats.twoway import two_way

FILE = Path(__file__).parents[2] / "benchmarks" / "null_studies.py"
spec = importlib.util.spec_from_file_location("null_studies", FILE)
simulation = importlib.util.module_from_spec(spec)
sys.modules["null_studies"] = simulation
spec.loader.exec_module(simulation)
Cell = simulation.Cell

GRID = [
    *(Cell(*of, by_unit=False) for of in itertools.product((5, 10), (200, 600), (0.5, 1.2, 2.5))),
    *(Cell(*of) for of in itertools.product((5, 10), (200, 600), (0.5, 2.5))),
    Cell(5, 3000, 1.2),  # the worst of the full table
    Cell(5, 200, 1.2, tasks=3),
    Cell(10, 200, 2.5, tasks=3),
]


@pytest.mark.parametrize("cell", GRID, ids=str)
def test_at_most_7_percent_of_null_studies_claim_a_win(cell):
    found = simulation.collect(cell, 1000, 0.0, seed=0)
    assert (found["wins"] != 0).any(axis=1).mean() <= 0.07
    assert (found["p"] < 0.05).mean() <= 0.07
    assert (np.abs(found["difference"]) <= found["half"]).mean() >= 0.93
    assert (np.abs(found["score"] - simulation.ACCURACY) <= found["score_half"]).mean() >= 0.93


@pytest.mark.parametrize("metric", ["macro_f1", "auroc"])
def test_metrics_that_are_no_means_claim_no_more(metric):
    found = simulation.collect(Cell(5, 300, 1.2, metric=metric), 300, 0.0, seed=0)
    assert (found["wins"] != 0).any(axis=1).mean() <= 0.07
    assert (np.abs(found["difference"]) <= found["half"]).mean() >= 0.93


def test_a_true_lead_is_found_and_never_the_wrong_way_round():
    found = simulation.collect(Cell(10, 600, 1.2), 500, simulation.LEAD, seed=0)
    first_pair = found["wins"][:, 0]
    assert (first_pair == 1).mean() > 0.65
    assert (first_pair == -1).sum() == 0
    assert (np.abs(found["difference"][:, 0] - simulation.LEAD) <= found["half"][:, 0]).mean() >= 0.93


def test_what_is_simulated_is_what_contrast_does():
    rng = np.random.default_rng(0)
    cell = Cell(5, 120, 1.2)
    margin = next(simulation.latent(cell, 1, 0.0, rng))
    d = simulation.values(cell, margin, rng)[0]
    parts = two_way([d[0] - d[1]])
    unit, ones = np.array([f"{i:06d}" for i in range(120)]), np.ones(120)
    arms = [
        {"t": [Predictions(unit, ones.astype(int), np.stack([-m, m], axis=1), ones) for m in arm]} for arm in margin[0]
    ]
    real = contrast(arms[0], arms[1], METRICS["accuracy"])
    assert (real.difference, real.p) == pytest.approx((float(parts.mean), float(parts.p())))
    assert real.high - real.difference == pytest.approx(float(parts.half_width(0.95)))
    assert real.high90 - real.difference == pytest.approx(float(parts.half_width(0.9)))
