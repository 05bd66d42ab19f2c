import pandas as pd
import pytest

from tunemerge.data.split import make_splits
from tunemerge.errors import UsageError


def table(n=200, per_unit=1, positive=0.3):
    label = ["yes" if i % 10 < positive * 10 else "no" for i in range(n)]
    return pd.DataFrame(
        {
            "text": [f"t{i}" for i in range(n)],
            "label": label,
            "unit": [str(i // per_unit) for i in range(n)],
            "weight": 1.0,
        }
    )


SIZES = {"test": 0.3, "validation": 40, "adapt": 20, "source": 50}


def test_splits_are_disjoint_and_of_the_sizes_asked_for():
    parts = make_splits(table(), SIZES, 0, "a")
    assert {k: len(v) for k, v in parts.items()} == {"test": 60, "validation": 40, "adapt": 20, "source": 50}
    texts = [t for rows in parts.values() for t in rows["text"]]
    assert len(texts) == len(set(texts))


def test_the_test_set_is_frozen_across_seeds_and_the_others_vary():
    one, two = make_splits(table(), SIZES, 0, "a"), make_splits(table(), SIZES, 1, "a")
    assert one["test"].equals(two["test"])
    assert not one["adapt"].equals(two["adapt"])
    assert one["adapt"].equals(make_splits(table(), SIZES, 0, "a")["adapt"])


def test_splits_are_stratified_by_label():
    for rows in make_splits(table(), SIZES, 3, "a").values():
        assert abs((rows["label"] == "yes").mean() - 0.3) <= 1 / len(rows)


def test_a_unit_is_never_divided():
    parts = make_splits(table(per_unit=4), SIZES, 0, "a")
    units = [set(rows["unit"]) for rows in parts.values()]
    assert sum(map(len, units)) == len(set().union(*units))


def test_too_many_rows_asked_for():
    with pytest.raises(UsageError, match=r"a: splits ask for 210 rows .* there are 200"):
        make_splits(table(), {"test": 0.8, "adapt": 50}, 0, "a")
