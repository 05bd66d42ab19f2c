from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus import SPEC, RowsFactory
from tunemerge.errors import UsageError
from tunemerge.tasks.task import TASKS

READ = TASKS["text-classification"].read


def test_files_are_concatenated_in_order(rows_parquet: RowsFactory) -> None:
    first = rows_parquet(
        texts=["a", "b"], labels=["positive", "negative"], name="x", units=["u", "v"], weights=[2, 0.5]
    )
    second = rows_parquet(texts=["c"], labels=["positive"], name="y")
    rows = READ([first, second], SPEC)
    assert rows.features == ["a", "b", "c"]
    assert rows.target.tolist() == [1, 0, 1] and rows.target.dtype == np.int32
    assert rows.unit == ["u", "v", "u0"]
    assert rows.weight.tolist() == [2, 0.5, 1]


def test_a_folder_stands_for_the_file_in_it(rows_parquet: RowsFactory) -> None:
    file = rows_parquet(3, name="rows")
    assert READ([file.parent], SPEC).features == READ([file], SPEC).features


def test_unknown_label_names_file_row_and_nearest(rows_parquet: RowsFactory) -> None:
    file = rows_parquet(texts=["a", "b"], labels=["positive", "negativ"])
    with pytest.raises(UsageError, match=r"rows\.parquet: row 1: label 'negativ'.*did you mean 'negative'"):
        READ([file], SPEC)


def test_missing_file_column_and_rows(tmp_path: Path, rows_parquet: RowsFactory) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.parquet: no such file"):
        READ([tmp_path / "nowhere.parquet"], SPEC)
    pq.write_table(pa.table({"text": ["a"], "label": ["positive"], "unit": ["u"]}), tmp_path / "odd.parquet")
    with pytest.raises(UsageError, match="column 'weight' is missing; the file has text, label, unit"):
        READ([tmp_path / "odd.parquet"], SPEC)
    with pytest.raises(UsageError, match="no rows"):
        READ([rows_parquet(texts=[], labels=[])], SPEC)
