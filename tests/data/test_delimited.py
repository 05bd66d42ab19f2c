import gzip

import pytest

from corpus import text_rows
from tunemerge.data.load import read_table
from tunemerge.errors import UsageError


def refused(tmp_path, content, name="t.csv"):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UsageError) as e:
        read_table(path)
    return str(e.value)


def test_a_comma_without_quotes_never_shifts_or_cuts_a_text(tmp_path):
    silent = refused(tmp_path, "what they wrote,verdict\nnice place, loved it,happy\n")
    assert "t.csv line 2: 3 fields, the header has 2: quote texts that contain commas" in silent
    crashed = refused(tmp_path, "ticket,what they wrote,verdict\n0,nice, really,happy\n1,bad,sad\n")
    assert "t.csv line 2: 4 fields, the header has 3" in crashed
    assert "line 3: 3 fields, the header has 2" in refused(tmp_path, "text,label\na,x\nb,y,\n")


def test_all_rows_with_another_number_of_fields_are_named_by_their_lines(tmp_path):
    text = refused(tmp_path, 'text,label\na,x\n"b\nb",y\nc\nd,x,1\ne,x\nf,g,h\n')
    assert "line 5: 1 fields" in text and "2 more: lines 6, 8)" in text
    many = refused(tmp_path, "text,label\n" + "a,b,c\n" * 9)
    assert "8 more: lines 3, 4, 5, 6, 7, ...)" in many


def test_quoted_commas_lines_and_quotes_are_kept(tmp_path):
    path = tmp_path / "t.csv.gz"
    content = '\ufefftext,label\r\n"a, b\nc ""d""",x\r\n\r\n' + "e" * 200_000 + ",y\r\n"
    path.write_bytes(gzip.compress(content.encode()))
    rows, found = text_rows(read_table(path))
    assert found == [] and rows["text"].tolist() == ['a, b\nc "d"', "e" * 200_000]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('text,label\na,x\n"b,y\nc,x\n', "line 3: a quote is opened in the row that begins here and never closed"),
        ('text,label\n"a" b,x\n', "line 2: text goes on after a closing quote"),
        ("ticket;text;label\n1;a;x\n", "one column, 'ticket;text;label': separated by ';'? Save it with commas"),
        ("text,label\nna\xefve,x\n".encode("latin-1"), "not UTF-8 (byte 0xef): save it as UTF-8"),
    ],
)
def test_files_that_are_no_comma_separated_text(tmp_path, content, expected):
    assert expected in refused(tmp_path, content)


def test_a_tab_separated_file_with_commas_inside(tmp_path):
    assert "separated by ','? Save it with tabs" in refused(tmp_path, "text,label\na,x\n", "t.tsv")
    (tmp_path / "t.tsv").write_text("text\tlabel\na, b\tx\n")
    assert read_table(tmp_path / "t.tsv").to_dict("list") == {"text": ["a, b"], "label": ["x"]}


def test_empty_values_are_missing_and_none_is_a_text(tmp_path):
    (tmp_path / "t.csv").write_text('text,label\n,x\n"",x\nNone,NA\n')
    table = read_table(tmp_path / "t.csv")
    assert table["text"].isna().tolist() == [True, True, False] and table["label"].tolist() == ["x", "x", "NA"]


def test_an_empty_file_has_no_rows(tmp_path):
    (tmp_path / "t.csv").write_text("")
    _, found = text_rows(read_table(tmp_path / "t.csv"))
    assert [f.code for f in found] == ["no-rows"]
