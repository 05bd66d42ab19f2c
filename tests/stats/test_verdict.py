"""The truth table of the decision."""

import pytest

from tunemerge.stats.components import Contrast
from tunemerge.stats.verdict import decide


def contrast(difference, half90):
    return Contrast(
        difference=difference,
        low=difference - 1.2 * half90,
        high=difference + 1.2 * half90,
        low90=difference - half90,
        high90=difference + half90,
        p=0.5,
        df=4.0,
        by_seed=(difference,),
        probability_a_better=0.5,
        smallest_detectable=0.1,
        seeds_to_settle=None,
        covers_seeds=True,
    )


@pytest.mark.parametrize(
    ("difference", "half90", "p_holm", "margin", "seeds", "outcome"),
    [
        (0.03, 0.01, 0.01, 0.005, 5, "better"),
        (-0.03, 0.01, 0.01, 0.005, 5, "worse"),
        (0.03, 0.01, 0.01, 0.005, 10, "better"),
        (0.03, 0.01, 0.01, 0.005, 4, "leads"),
        (-0.03, 0.01, 0.01, 0.005, 2, "leads"),
        (0.03, 0.01, 0.01, 0.005, 1, "leads"),  # on these test rows: nothing is claimed
        (-0.03, 0.01, 0.01, 0.005, 1, "leads"),
        (0.03, 0.01, 0.05, 0.005, 1, "inconclusive"),
        (0.03, 0.01, 0.05, 0.005, 5, "inconclusive"),
        (0.03, 0.01, 0.049, 0.005, 5, "better"),
        (0.03, 0.04, 0.2, 0.005, 5, "inconclusive"),
        (0.03, 0.04, 0.2, 0.005, 3, "inconclusive"),
        (0.001, 0.003, 0.6, 0.005, 5, "equivalent"),
        (-0.001, 0.003, 0.6, 0.005, 5, "equivalent"),
        (0.001, 0.0045, 0.6, 0.005, 5, "inconclusive"),
        (-0.001, 0.0045, 0.6, 0.005, 5, "inconclusive"),
        (0.003, 0.001, 0.001, 0.005, 5, "equivalent"),  # significant, yet too small to matter
        (-0.003, 0.001, 0.001, 0.005, 5, "equivalent"),
        (0.006, 0.0005, 0.001, 0.005, 5, "better"),
        (0.001, 0.003, 0.6, 0.005, 1, "inconclusive"),
        (0.001, 0.003, 0.6, 0.0, 5, "inconclusive"),  # no margin: nothing is equivalent ...
        (0.0, 0.0, 1.0, 0.0, 5, "equivalent"),  # ... but an arm and its double
    ],
)
def test_decision(difference, half90, p_holm, margin, seeds, outcome):
    assert decide(contrast(difference, half90), p_holm, margin, seeds) == outcome
