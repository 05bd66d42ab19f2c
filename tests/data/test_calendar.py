import numpy as np
import pandas as pd
import pytest

from tunemerge.data.calendar import by_window, parse_span, parse_times, windows
from tunemerge.errors import UsageError

DAY = 86_400.0


def days(n, start="2020-01-01"):
    return pd.Series(pd.date_range(start, periods=n).strftime("%Y-%m-%d"), name="day")


def rows(n, unit=None):
    return pd.DataFrame({"text": [f"t{i}" for i in range(n)], "unit": unit or [str(i) for i in range(n)]})


def test_dates_and_numbers():
    times, numeric = parse_times(days(3), "a")
    assert not numeric and np.diff(times).tolist() == [DAY, DAY]
    times, numeric = parse_times(pd.Series(["3", "1.5"], name="step"), "a")
    assert numeric and times.tolist() == [3.0, 1.5]
    assert parse_times(pd.Series(["2020-01-02T00:00+02:00", "2020-01-02"], name="x"), "a")[0].tolist() == [
        1577916000.0, 1577923200.0,
    ]  # fmt: skip


@pytest.mark.parametrize("value", ["13th of April", "03/04/2020", "April", "20-1"])
def test_only_dates_that_can_be_read_in_one_way_are_taken(value):
    with pytest.raises(UsageError, match=r"are no dates, first .* in data row 2; write them as 2026-01-31"):
        parse_times(pd.Series(["2020-01-01", value], name="day"), "tasks.a")


def test_dates_far_away():
    times, _ = parse_times(pd.Series(["0900-01-01", "1970-01-01", "2970-01-01"], name="day"), "tasks.a")
    assert times[1] == 0 and times[0] < 0 < times[2]


def test_a_value_that_is_no_date_is_named_with_its_row():
    with pytest.raises(UsageError, match=r"1 values of 'day' are no dates, first 'yesterday' in data row 2"):
        parse_times(pd.Series(["2020-01-01", "yesterday"], name="day"), "tasks.a")


@pytest.mark.parametrize(("span", "seconds"), [("5d", 5 * DAY), ("12h", DAY / 2), ("2w", 14 * DAY), (None, 0)])
def test_lengths_of_time(span, seconds):
    assert parse_span(span, False, "horizon") == seconds


@pytest.mark.parametrize(("span", "numeric"), [("5", False), ("soon", False), ("-1d", False), ("5d", True)])
def test_what_is_no_length_of_time(span, numeric):
    with pytest.raises(UsageError, match=r"splits\.horizon: "):
        parse_span(span, numeric, "splits.horizon")


def test_one_cut_for_all_tasks_and_nothing_is_seen_before_its_time():
    long, short = parse_times(days(100), "a")[0], parse_times(days(30, "2020-03-01"), "b")[0]
    sizes = {"test": 0.2, "validation": 0.2, "source": 0.2}
    cut = windows([long, short], sizes, None, None, 2 * DAY)
    a, _ = by_window(rows(100), long, cut)
    b, _ = by_window(rows(30), short, cut)
    assert len(a["test"]) + len(b["test"]) == pytest.approx(26, abs=2)
    own = {id(a): long, id(b): short}
    for earlier, later, gap in (
        ("adapt", "validation", 2 * DAY),
        ("validation", "test", 2 * DAY),
        ("source", "adapt", 0),
    ):
        ends = [own[id(p)][p[earlier].index].max() for p in (a, b) if len(p[earlier])]
        starts = [own[id(p)][p[later].index].min() for p in (a, b) if len(p[later])]
        assert max(ends) + gap < min(starts)


def test_walk_forward_folds_train_on_all_that_came_before():
    times = parse_times(days(120), "a")[0]
    seen, last = [], -1
    for fold in range(5):
        parts, _ = by_window(rows(120), times, windows([times], {}, 5, fold, 3 * DAY))
        held = parts["held_out"].index
        assert held.min() > last and len(held) == 20
        last = held.max()
        assert parts["validation"].index.max() + 3 < held.min()
        assert parts["adapt"].index.max() + 3 < parts["validation"].index.min()
        assert parts["adapt"].index.min() == 0
        seen += list(held)
    assert seen == list(range(20, 120))


def test_the_test_rows_stay_after_all_folds():
    times = parse_times(days(100), "a")[0]
    for fold in range(3):
        parts, _ = by_window(rows(100), times, windows([times], {"test": 0.2}, 3, fold, 0.0))
        assert parts["test"].index.tolist() == list(range(80, 100))
        assert parts["held_out"].index.max() < 80


def test_rows_of_one_day_are_never_divided():
    times = np.repeat(parse_times(days(10), "a")[0], 7)
    parts, _ = by_window(rows(70), times, windows([times], {"test": 0.25, "validation": 0.25}, None, None, 0.0))
    found = [set(times[p.index]) for p in parts.values()]
    assert sum(map(len, found)) == 10 and not set.intersection(*found)


def test_a_unit_that_is_tested_is_dropped_from_what_came_before():
    times = parse_times(days(100), "a")[0]
    own = rows(100, unit=["patient" if i in (3, 4, 95) else str(i) for i in range(100)])
    parts, dropped = by_window(own, times, windows([times], {"test": 0.2}, None, None, 0.0))
    assert dropped == {"adapt": 2} and "patient" not in set(parts["adapt"]["unit"])
    assert "patient" in set(parts["test"]["unit"])
