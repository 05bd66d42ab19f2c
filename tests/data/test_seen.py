import json

import pandas as pd
import pytest

from tunemerge.data.seen import FILE, pass_on, read_seen, row_hashes
from tunemerge.errors import UsageError


def test_case_and_spaces_make_no_difference_and_other_texts_do():
    one, two, other = row_hashes(pd.Series(["Good  phone", " good phone\n", "good phones"]))
    assert one == two != other and len(one) == 16


def test_what_models_have_seen_is_passed_on_together_with_ones_own(tmp_path):
    folders = [tmp_path / n for n in "abc"]
    for folder in folders:
        folder.mkdir()
    pass_on([], folders[0], row_hashes(pd.Series(["x", "y"])))
    pass_on([folders[0], folders[1]], folders[2], row_hashes(pd.Series(["y", "z"])))
    assert read_seen(folders[1]) is None
    assert read_seen(folders[2]) == frozenset(row_hashes(pd.Series(["x", "y", "z"])))
    assert "x" not in json.loads((folders[2] / FILE).read_text())["rows"]


@pytest.mark.parametrize("text", ["", "[]", '{"format": 2, "rows": []}', '{"format": 1, "rows": [3]}', '{"format": 1}'])
def test_what_is_no_record(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(UsageError, match="not a record of rows"):
        read_seen(tmp_path)
