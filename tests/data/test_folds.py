import numpy as np
import pandas as pd
import pytest

from tunemerge.data.split import fold_of, frozen_rows, inner_splits, make_splits
from tunemerge.data.splitter import built_folds, load_function
from tunemerge.errors import UsageError


def table(n=200, per_unit=1, positive=0.3):
    label = ["yes" if (i // per_unit) % 10 < positive * 10 else "no" for i in range(n)]
    return pd.DataFrame(
        {
            "text": [f"t{i}" for i in range(n)],
            "label": label,
            "unit": [f"u{i // per_unit}" for i in range(n)],
            "weight": 1.0,
        }
    )


def test_every_row_is_held_out_once_and_labels_and_sizes_are_even():
    rows = table()
    home = fold_of(rows, 5, 0, "a")
    assert np.bincount(home).tolist() == [40] * 5
    assert [int(((rows["label"] == "yes") & (home == f)).sum()) for f in range(5)] == [12] * 5


def test_repetitions_have_other_folds_and_the_same_ones_again():
    rows = table()
    assert (fold_of(rows, 5, 0, "a") != fold_of(rows, 5, 1, "a")).any()
    assert (fold_of(rows, 5, 1, "a") == fold_of(rows, 5, 1, "a")).all()


@pytest.mark.parametrize("seed", range(3))
def test_units_of_unequal_size_stay_whole_and_folds_stay_even(seed):
    rng = np.random.default_rng(seed)
    units = np.repeat(np.arange(60), rng.integers(1, 12, 60))
    rows = pd.DataFrame({"unit": units.astype(str), "label": np.where(units % 3 == 0, "yes", "no")})
    home = fold_of(rows, 4, seed, "a")
    assert all(len(set(home[units == u])) == 1 for u in range(60))
    sizes = np.bincount(home)
    assert sizes.max() - sizes.min() <= 12


def test_fewer_units_than_folds():
    with pytest.raises(UsageError, match="4 units can't be dealt to 5 folds"):
        fold_of(table(8, per_unit=2), 5, 0, "a")


def test_what_a_fold_leaves_becomes_validation_source_and_the_rest():
    rows = table(per_unit=2)
    rest = rows[fold_of(rows, 5, 0, "a") != 0]
    parts = inner_splits(rest, {"source": 0.2}, len(rows), "5/0/0", "a")
    assert {k: len(v) for k, v in parts.items()} == {"validation": 20, "source": 40, "adapt": 100}
    units = [set(p["unit"]) for p in parts.values()]
    assert sum(map(len, units)) == len(set().union(*units))
    with pytest.raises(UsageError, match=r"splits ask for 170 rows .* a fold leaves 160 of 200"):
        inner_splits(rest, {"adapt": 150}, len(rows), "5/0/0", "a")


def test_the_frozen_test_rows_are_those_of_a_study_by_seed():
    rows = table()
    test, rest = frozen_rows(rows, 0.25, "a")
    assert test.equals(make_splits(rows, {"test": 0.25, "adapt": 10}, 7, "a")["test"])
    assert len(test) + len(rest) == len(rows)
    assert frozen_rows(rows, None, "a")[0] is None


SPLITTER = """\
from sklearn.model_selection import {cls}

def make({seed}):
    return {cls}({how})
"""


def write(folder, cls="StratifiedGroupKFold", how="5", seed=""):
    (folder / "folds.py").write_text(SPLITTER.format(cls=cls, how=how, seed=seed))
    return load_function("folds.py:make", folder)


def run(make, folds=5, rows=None, seed=0):
    rows = table(per_unit=2) if rows is None else rows
    return built_folds(make, rows, rows["label"], rows["unit"], folds, seed, "a")


def test_a_splitter_of_ones_own(tmp_path):
    found = run(write(tmp_path))
    assert sorted(np.concatenate([b for _, b in found])) == list(range(200))
    shuffled = write(tmp_path, how="5, shuffle=True, random_state=seed", seed="seed")
    one, two = run(shuffled, seed=1), run(shuffled, seed=2)
    assert any(list(a[1]) != list(b[1]) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize(
    ("cls", "how", "message"),
    [
        ("GroupKFold", "4", "the splitter makes 4 folds, the study says 5"),
        ("StratifiedKFold", "5, shuffle=True, random_state=0", r"units on both sides, first 'u\d+'.*GroupKFold"),
        ("GroupKFold", "1", "the splitter failed: ValueError"),
    ],
)
@pytest.mark.filterwarnings("ignore:The groups parameter")
def test_what_is_wrong_with_a_splitter(tmp_path, cls, how, message):
    with pytest.raises(UsageError, match=message):
        run(write(tmp_path, cls, how))


def test_a_splitter_that_is_not_there(tmp_path):
    write(tmp_path)
    with pytest.raises(UsageError, match="no such file"):
        load_function("gone.py:make", tmp_path)
    with pytest.raises(UsageError, match="no function 'mak'; did you mean 'make'"):
        load_function("folds.py:mak", tmp_path)
    (tmp_path / "bad.py").write_text("import nothing_like_it")
    with pytest.raises(UsageError, match="can't be run: ModuleNotFoundError"):
        load_function("bad.py:make", tmp_path)
