"""Splits by time of rows whose answers are known later: nothing that is trained or chosen on looks past a cut."""

import numpy as np
import pandas as pd

from tunemerge.data.calendar import Known, by_window, windows


def panel(series, days, ahead):
    """A row a series and day, whose answer is known `ahead` days later."""
    rows = pd.DataFrame([(f"s{s}", float(d)) for s in range(series) for d in range(days)], columns=["unit", "time"])
    return rows.assign(known=rows["time"] + ahead)


def test_every_answer_is_known_before_what_is_chosen_or_scored_with_it_begins():
    rows = panel(3, 100, 7)
    times = rows["time"].to_numpy()
    sizes = {"test": 0.2, "validation": 0.1, "adapt": 0.3, "source": 0.4}
    cut = windows([times], sizes, None, None, 5.0)
    parts, dropped = by_window(rows, times, cut, Known(rows["known"].to_numpy(), 0.0))
    assert dropped == {} and set(parts["test"]["unit"]) == set(parts["adapt"]["unit"]) == {"s0", "s1", "s2"}
    assert parts["test"]["time"].min() == parts["validation"]["known"].max() == 80
    assert parts["validation"]["time"].min() == parts["adapt"]["known"].max()
    # The pool may train right up to the adapt rows, which are trained on too.
    assert parts["source"]["known"].max() > parts["adapt"]["time"].min()
    assert len(parts["test"]) == 60  # nothing comes after it, so all of it stays


def test_an_embargo_is_kept_between_an_answer_and_the_cut():
    rows = panel(1, 100, 7)
    times = rows["time"].to_numpy()
    cut = windows([times], {"test": 0.2}, None, None, 9.999)
    parts, _ = by_window(rows, times, cut, Known(rows["known"].to_numpy(), 3.0))
    assert parts["validation"]["known"].max() == 77 and parts["test"]["time"].min() == 80


def test_folds_walk_forward_with_answers_known_before_each():
    rows = panel(2, 120, 5)
    times = rows["time"].to_numpy()
    known = Known(rows["known"].to_numpy(), 0.0)
    for fold in range(3):
        parts, _ = by_window(rows, times, windows([times], {}, 3, fold, 5.0), known)
        begins = parts["held_out"]["time"].min()
        assert parts["adapt"]["known"].max() <= parts["validation"]["time"].min()
        assert parts["validation"]["known"].max() <= begins
        assert np.isclose(begins, 30 * (fold + 1))
