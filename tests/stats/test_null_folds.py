"""False wins of cross-validated studies with real overlapping training rows: benchmarks/null_folds.py, in seconds."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "null_folds.py"
spec = importlib.util.spec_from_file_location("null_folds", FILE)
simulation = importlib.util.module_from_spec(spec)
sys.modules["null_folds"] = simulation
spec.loader.exec_module(simulation)
Cell = simulation.Cell

GRID = [
    Cell(150, columns=5),
    Cell(100, columns=60),  # what is learned depends most on the rows that were seen
    Cell(150, 10, columns=5),
    Cell(200, 5, repetitions=3, columns=5),
    Cell(200, 2, repetitions=5, columns=5),
    Cell(300, adapt=0.1, columns=10),
]


@pytest.mark.parametrize("cell", GRID, ids=str)
def test_at_most_the_nominal_5_percent_of_null_studies_claim_a_win(cell):
    found = simulation.simulate(cell, 300)
    assert (found.wins != 0).any(axis=1).mean() <= 0.05
    assert (found.p < 0.05).mean() <= 0.05
    assert (np.abs(found.difference) <= found.half).mean() >= 0.95


def test_the_uncorrected_variance_would_claim_wins_in_repeated_folds():
    found = simulation.simulate(Cell(200, 5, repetitions=3, columns=5), 300)
    assert (found.naive < 0.05).mean() > 0.15


def test_a_large_true_lead_is_found_and_never_the_wrong_way_round():
    found = simulation.simulate(Cell(1500, columns=5), 100, lead=0.6)
    assert (found.wins[:, 0] == 1).mean() > 0.8
    assert (found.wins[:, 0] == -1).sum() == 0
