"""Windows of series: what they hold, and rows that can't be used."""

import numpy as np
import pandas as pd
import pytest

from series import waves
from tunemerge.tasks.task import TASKS
from tunemerge.tasks.windows import SeriesOptions, cut_windows


def steps(*lengths):
    """Series a, b, ... whose values count 0, 1, ...; b starts at 100, and so on."""
    parts = [
        pd.DataFrame({"series": "abc"[i], "time": np.arange(n), "value": 100.0 * i + np.arange(n)})
        for i, n in enumerate(lengths)
    ]
    return pd.concat(parts, ignore_index=True)


def cut(table, stride=1, season=1, **options):
    found, wrong = cut_windows(table, SeriesOptions(**options), "t", stride, season)
    assert wrong == []
    return found


def test_a_window_ends_at_its_row_and_its_future_begins_after_it():
    found = cut(steps(6, 5), context=3, horizon=2)
    assert found.at.tolist() == [2, 3, 8] and found.series.tolist() == ["a", "a", "b"]
    assert found.context[:, :, 0].tolist() == [[0, 1, 2], [1, 2, 3], [100, 101, 102]]
    assert found.future.tolist() == [[3, 4], [4, 5], [103, 104]]
    assert found.time.tolist() == [2, 3, 2] and found.known.tolist() == [4, 5, 4]


def test_the_scale_of_a_window_is_its_seasonal_naive_error_before_the_forecast():
    table = steps(8).assign(value=[0.0, 1, 4, 9, 16, 25, 36, 1000])
    found = cut(table, context=3, horizon=1, season=2)
    by_hand = [
        np.mean([abs(v[i] - v[i - 2]) for i in range(2, len(v))])
        for v in ([0, 1, 4, 9, 16, 25, 36][:n] for n in range(3, 8))
    ]
    np.testing.assert_allclose(found.past, by_hand)


def test_with_a_stride_series_of_one_calendar_are_forecast_at_the_same_times():
    table = steps(12, 12)
    late = table[~((table["series"] == "b") & (table["time"] < 3))].reset_index(drop=True)
    found = cut(late, stride=4, context=2, horizon=1)
    assert {s: found.time[found.series == s].tolist() for s in "ab"} == {"a": [2, 6, 10], "b": [6, 10]}


def test_holidays_of_a_market_are_no_gap_and_missing_months_are():
    days = pd.bdate_range("2024-01-01", periods=30).delete([10, 11]).strftime("%Y-%m-%d")
    table = pd.DataFrame({"series": "a", "time": days, "value": np.arange(28.0)})
    assert len(cut(table, context=3).at) == 25
    months = pd.date_range("2024-01-01", periods=24, freq="MS").delete(7).strftime("%Y-%m-%d")
    table = pd.DataFrame({"series": "a", "time": months, "value": np.arange(23.0)})
    _, (gap,) = cut_windows(table, SeriesOptions(context=3), "t")
    assert gap.code == "gap" and "data row 8 of 'a': '2024-09-01' after '2024-07-01'" in gap.message
    assert len(cut(table, context=3, longest_step="70d").at) == 20


@pytest.mark.parametrize(
    ("spoil", "code", "says"),
    [
        (lambda t: t.iloc[[0, 2, 1, *range(3, len(t))]], "time-goes-back", "data row 3 of 's0': '2024-01-02' after"),
        (lambda t: pd.concat([t, t.iloc[[4]]]), "time-twice", "data row 81: 's0' at '2024-01-05'"),
        (lambda t: t.assign(time=t["time"].replace("2024-01-03", "soon")), "bad-date", "'soon' in data row 3"),
        (lambda t: t.assign(value=["x", *t["value"][1:]]), "not-a-number", "'x' in data row 1"),
        (lambda t: t.drop(index=[20, 21]), "gap", "data row 21 of 's0': '2024-01-23' after '2024-01-20'"),
    ],
)  # fmt: skip
def test_a_row_that_cant_be_used_is_named_with_its_value(spoil, code, says):
    table = spoil(waves(2, 40)).reset_index(drop=True)
    kind = TASKS["forecasting"]
    _, found = kind.convert(table, kind.Options(context=8), "prices.csv")
    assert code in [f.code for f in found] and all(f.remedy and f.where == "prices.csv" for f in found)
    assert says in next(f.message for f in found if f.code == code)


def test_returns_are_of_prices_and_every_row_says_its_day_asset_and_cost():
    table = steps(6, 6).assign(value=lambda t: 1.0 + t["time"] + (t["series"] == "b"), time=lambda t: 10.0 * t["time"])
    kind = TASKS["returns"]
    rows, found = kind.convert(table, kind.Options(context=2, horizon=2, cost=5), "t")
    assert found == [] and rows["day"].tolist() == [30, 30] and rows["asset"].tolist() == [0, 1]
    assert rows["return"].tolist() == pytest.approx([6 / 4 - 1, 7 / 5 - 1]) and set(rows["cost"]) == {5e-4}
    context = np.frombuffer(rows["context"].iloc[0])
    np.testing.assert_allclose(context, np.log([3 / 2, 4 / 3]))
    assert rows["known"].tolist() == [50, 50]
