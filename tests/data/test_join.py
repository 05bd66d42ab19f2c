"""Several tables as one: pooled rows keep where they are from, joined columns end before the row's own time."""

import pandas as pd
import pytest

from tunemerge.data.join import Join, joined, pooled


def codes(found):
    return {f.code: f.message for f in found}


def days():
    return pd.DataFrame(
        {
            "user": ["1", "1", "1", "2", "9"],
            "day": ["2026-01-01", "2026-01-03", "2026-01-05", "2026-01-02", "2026-01-01"],
            "steps": ["100", "300", "900", None, "7"],
        }
    )


def visits():
    return pd.DataFrame({"patient": ["1", "2", "3"], "visit": ["2026-01-05", "2026-01-05", "2026-01-05"]})


def test_a_window_ends_before_the_rows_time_and_counts_what_has_no_counterpart():
    window = {"time": "day", "before": "visit", "span": "3d", "by": ["mean", "count"]}
    how = Join(table="days.csv", on={"patient": "user"}, columns=["steps"], window=window)
    table, found = joined(visits(), days(), how, "t")
    assert table["steps_mean"].tolist()[:1] == [300] and table["steps_mean"].isna().tolist() == [False, True, True]
    assert table["steps_count"].tolist()[:2] == [1, 0]  # the day of the visit itself is not read
    assert codes(found)["join-unmatched"] == "1 of 3 rows have no row in days.csv: missing values"
    assert codes(found)["join-unused"].startswith("1 of 5 rows")
    everything = Join(table="days.csv", on={"patient": "user"}, columns=["steps"], window={**window, "span": None})
    assert joined(visits(), days(), everything, "t")[0]["steps_mean"][0] == 200


def test_a_key_that_stands_twice_is_an_error_and_a_row_that_does_is_taken_once():
    records = pd.DataFrame({"patient": ["2", "1", "1"], "age": ["30", "40", "40"]})
    table, found = joined(visits(), records, Join(table="r.csv", on=["patient"]), "t")
    assert table["age"].tolist()[:2] == ["40", "30"] and len(table) == 3 and "join-duplicates" in codes(found)
    records.loc[2, "age"] = "41"
    _, found = joined(visits(), records, Join(table="r.csv", on=["patient"]), "t")
    assert "first data row 3" in codes(found)["join-duplicates"] and found[-1].severity == "error"


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"on": ["patient"]}, "no-such-column"),
        ({"on": {"patient": "user"}, "columns": ["stepz"]}, "no-such-column"),
        ({"on": {"patient": "user"}, "window": {"time": "steps", "before": "visit"}}, "bad-date"),
    ],
)
def test_what_can_not_be_joined_is_said(how, code):
    table, found = joined(visits(), days(), Join(table="days.csv", **how), "t")
    assert code in codes(found) and list(table.columns) == ["patient", "visit"][: len(table.columns)]


def test_pooled_rows_say_which_table_they_are_from():
    one = pd.DataFrame({"a": ["1", "2"], "b": ["x", "y"]})
    two = pd.DataFrame({"a": ["2", "3"], "b": ["y", "z"], "c": ["0", "0"]})
    table, found = pooled({"north": one, "south": two}, "t")
    assert table["source"].tolist() == ["north", "north", "south", "south"] and len(table) == 4
    assert "north lacks 'c'" in codes(found)["column-only-elsewhere"] and "rows-twice" not in codes(found)
    _, found = pooled({"north": one, "south": two[["a", "b"]]}, "t")
    assert codes(found)["rows-twice"].startswith("1 of 4 rows")
    assert "column-twice" in codes(pooled({"n": one.assign(source=1), "s": two}, "t")[1])
