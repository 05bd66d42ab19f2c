import numpy as np
import pytest

from tunemerge.errors import UsageError
from tunemerge.stats.predictions import Predictions


def columns():
    return {
        "unit": np.array(["a", "b", "c"]),
        "target": np.array([0, 1, 1], np.int32),
        "outputs": np.zeros((3, 2)),
        "weight": np.ones(3),
    }


def test_plain_columns_pass():
    p = Predictions(**columns())
    assert p.outputs.shape == (3, 2) and p.weight.dtype == np.float64


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("unit", np.array([], str), "no rows"),
        ("outputs", np.zeros(3), r"outputs have shape \(3,\)"),
        ("outputs", np.zeros((3, 1)), "2 or more of classes"),
        ("weight", np.ones(2), r"weight has shape \(2,\), unit has 3 rows"),
        ("target", np.array(["0", "1", "1"]), "target has dtype <U1"),
        ("target", np.array([0, 1, 2]), "row 2: the target is no index of the 2 classes"),
        (
            "outputs",
            np.array([[0, 0], [np.nan, 0], [0, np.inf]]),
            r"row 1: an output is NaN .* \(and 1 more rows\)",
        ),
        ("weight", np.array([1.0, 1.0, 0.0]), "row 2: the weight is not a positive number"),
    ],
)
def test_what_is_wrong_is_named(column, value, message):
    with pytest.raises(UsageError, match=message):
        Predictions(**{**columns(), column: value})
