import numpy as np
import pandas as pd
import pytest

from corpus import sentences
from tunemerge.data.telling import auroc, column_auroc, difference, is_id

N = 300
RNG = np.random.default_rng(0)
LABELS = pd.Series(np.where(np.arange(N) < N // 2, "no", "yes"))
UNITS = pd.Series(np.arange(N))


def test_auroc_counts_ties_half():
    assert auroc(np.array([True, True, False, False]), np.array([2.0, 1, 1, 0])) == 3.5 / 4
    assert np.isnan(auroc(np.array([True]), np.array([1.0])))


def test_an_id_that_follows_the_labels():
    ids = pd.Series([f"patient-{i:04d}" for i in range(N)])
    assert is_id(ids) and column_auroc(ids, LABELS, UNITS) > 0.95
    shuffled = pd.Series(ids.to_numpy()[RNG.permutation(N)])
    assert is_id(shuffled) and column_auroc(shuffled, LABELS, UNITS) < 0.6


def test_numbers_and_words_that_give_the_label_away_and_those_that_do_not():
    discharge = pd.Series(np.where(LABELS == "yes", "ward B", "home"))
    score = pd.Series((LABELS == "yes") * 5.0 + RNG.random(N))
    noise = pd.Series(RNG.random(N))
    assert column_auroc(discharge, LABELS, UNITS) == 1.0
    assert column_auroc(score, LABELS, UNITS) > 0.99
    assert column_auroc(noise, LABELS, UNITS) < 0.6
    assert not any(map(is_id, (discharge, score, noise)))


def test_texts_of_which_each_is_its_own_say_nothing_by_themselves():
    assert column_auroc(pd.Series(sentences(N, 0)[0]), LABELS, UNITS) == pytest.approx(0.5, abs=0.05)


def test_what_is_the_same_for_all_rows_of_a_unit_does_not_count_as_telling():
    units = pd.Series(np.arange(N) // 10)
    labels = pd.Series(np.where(RNG.random(N // 10).repeat(10) < 0.5, "no", "yes"))
    assert column_auroc(pd.Series(units.map(lambda u: f"born {u * 37 % 101}th")), labels, units) < 0.7


def test_rows_of_the_same_source_look_alike_and_others_do_not():
    one, two = (pd.DataFrame({"text": sentences(200, seed)[0]}) for seed in (1, 2))
    same = difference(one, two)
    assert abs(same.auroc - 0.5) < 2 * 1.96 * same.error
    itself = difference(one[:100], one)
    assert abs(itself.auroc - 0.5) < 2 * 1.96 * itself.error
    other = difference(one, pd.DataFrame({"text": [t + " per favore" for t in two["text"]]}))
    assert other.auroc > 0.99 and set(other.second) & {"per", "favore"}


def test_columns_of_numbers_and_categories():
    one = pd.DataFrame({"age": RNG.normal(50, 10, 200), "sex": RNG.choice(["m", "f"], 200)})
    two = pd.DataFrame({"age": RNG.normal(65, 10, 200), "sex": RNG.choice(["m", "f"], 200)})
    found = difference(one, two)
    assert 0.75 < found.auroc < 0.95 and found.second[0].startswith("age in tenth")
    with pytest.raises(ValueError, match="fewer than 10 rows"):
        difference(one, two[:5])
