import numpy as np
import pytest

from tunemerge.errors import UsageError
from tunemerge.stats.predictions import Predictions


def columns():
    return {
        "unit": np.array(["a", "b", "c"]),
        "target": np.array([0, 1, 1], np.int32),
        "logits": np.zeros((3, 2)),
        "weight": np.ones(3),
    }


def test_plain_columns_pass():
    p = Predictions(**columns())
    assert p.logits.shape == (3, 2) and p.weight.dtype == np.float64


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("unit", np.array([], str), "no rows"),
        ("logits", np.zeros(3), r"logits have shape \(3,\)"),
        ("logits", np.zeros((3, 1)), "2 classes or more"),
        ("weight", np.ones(2), r"weight has shape \(2,\), unit has 3 rows"),
        ("target", np.array(["0", "1", "1"]), "target has dtype <U1"),
        ("target", np.array([0, 1, 2]), "row 2: the target is no index of the 2 classes"),
        (
            "logits",
            np.array([[0, 0], [np.nan, 0], [0, np.inf]]),
            r"row 1: a logit is NaN .* \(and 1 more rows\)",
        ),
        ("weight", np.array([1.0, 1.0, 0.0]), "row 2: the weight is not a positive number"),
    ],
)
def test_what_is_wrong_is_named(column, value, message):
    with pytest.raises(UsageError, match=message):
        Predictions(**{**columns(), column: value})
