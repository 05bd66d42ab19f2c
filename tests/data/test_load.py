import gzip

import pandas as pd
import pytest

from corpus import text_rows
from tunemerge.data.load import read_table, table_path
from tunemerge.errors import UsageError


def codes(findings):
    return [f.code for f in findings]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.tsv", "a.jsonl", "a.parquet"])
def test_every_format_gives_the_same_rows(tmp_path, name):
    table = pd.DataFrame({"text": ["None", "two, with comma", "ü"], "label": ["a", "b", "a"]})
    path = tmp_path / name
    if name.endswith(".jsonl"):
        table.to_json(path, orient="records", lines=True)
    elif name.endswith(".parquet"):
        table.to_parquet(path)
    else:
        text = table.to_csv(index=False, sep="\t" if ".tsv" in name else ",").encode()
        path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    rows, found = text_rows(read_table(path))
    assert found == []
    assert rows["text"].tolist() == ["None", "two, with comma", "ü"]
    assert rows["label"].tolist() == ["a", "b", "a"]
    assert rows["unit"].tolist() == ["0", "1", "2"]


def test_a_missing_file_and_an_unknown_format_are_named(tmp_path):
    with pytest.raises(UsageError, match=r"nothing\.csv: no such file"):
        read_table(tmp_path / "nothing.csv")
    (tmp_path / "a.xlsx").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"expected one of \.csv"):
        read_table(tmp_path / "a.xlsx")


def test_all_that_is_wrong_with_the_columns_comes_at_once():
    table = pd.DataFrame({"txt": ["a"], "labels": ["b"]})
    _, found = text_rows(table, unit="patient")
    assert codes(found) == ["no-such-column"] * 3
    assert "did you mean 'labels'? the columns are: txt, labels" in found[1].message
    _, found = text_rows(pd.DataFrame({"ticket": [1], "wrote": ["b"]}), "use --{role} NAME")
    assert "(for text); the columns are: ticket, wrote" in found[0].message and found[0].remedy == "use --text NAME"


def test_missing_values_name_their_lines():
    table = pd.DataFrame({"text": ["a", None, "c"], "label": ["x", "y", None]})
    _, found = text_rows(table)
    assert codes(found) == ["missing-value"] and "2 rows" in found[0].message
    assert found[0].message.endswith("(data rows 2, 3)")
    many = pd.DataFrame({"text": ["a"] * 9, "label": ["x", *[None] * 8]})
    assert text_rows(many)[1][0].message.endswith("(data rows 2, 3, 4, 5, 6 and 3 more)")


def test_a_row_without_a_unit_is_not_put_together_with_the_others_that_lack_one():
    table = pd.DataFrame({"text": list("abc"), "label": list("xyx"), "patient": ["1", None, None]})
    _, found = text_rows(table, unit="patient")
    assert codes(found) == ["missing-value"] and "or a unit (data rows 2, 3)" in found[0].message


def test_two_columns_of_one_name_are_refused():
    table = pd.DataFrame([["a", "b", "x"]], columns=["text", "text", "label"])
    assert codes(text_rows(table)[1]) == ["column-twice"]


def test_where_keeps_rows_and_suggests_values():
    table = pd.DataFrame({"text": list("abc"), "label": list("xyx"), "site": ["yelp", "imdb", "yelp"]})
    rows, found = text_rows(table, where={"site": "yelp"})
    assert found == [] and rows["text"].tolist() == ["a", "c"]
    _, found = text_rows(table, where={"site": "yepl"})
    assert codes(found) == ["no-rows"] and "'yelp'" in found[0].message


def test_labels_are_renamed_and_unknown_ones_refused():
    table = pd.DataFrame({"text": list("abc"), "label": [0, 1, 2]})
    rows, found = text_rows(table, labels={"0": "no", "1": "yes", "2": "both"})
    assert found == [] and rows["label"].tolist() == ["no", "yes", "both"]
    _, found = text_rows(table, labels={"0": "no", "1": "yes"})
    assert codes(found) == ["unknown-label"] and "'2'" in found[0].message
    table = pd.DataFrame({"text": list("ab"), "label": ["grumpy", "happy"]})
    _, found = text_rows(table, labels={"grmpy": "no", "happy": "yes"})
    assert "did you mean 'grmpy'?" in found[0].message


def test_rows_with_the_same_text_are_one_unit():
    table = pd.DataFrame({"text": ["a", "b", "a"], "label": list("xyx")})
    assert text_rows(table)[0]["unit"].tolist() == ["0", "1", "0"]


def test_weights_must_be_positive():
    table = pd.DataFrame({"text": list("ab"), "label": list("xy"), "w": [1, "-2"]})
    _, found = text_rows(table, weight="w")
    assert codes(found) == ["bad-weight"] and "data row 2" in found[0].message


def test_a_variable_of_the_environment_names_a_folder(tmp_path, monkeypatch):
    (tmp_path / "t.csv").write_text("text,label\na,b\n")
    monkeypatch.setenv("SOME_DATA", str(tmp_path))
    assert len(read_table(table_path(tmp_path / "elsewhere", "$SOME_DATA/t.csv"))) == 1
    with pytest.raises(UsageError, match="the environment variable NO_DATA is not set"):
        read_table(table_path(tmp_path, "${NO_DATA}/t.csv"))
