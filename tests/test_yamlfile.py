from __future__ import annotations

import math
from pathlib import Path

import pytest

from tunemerge.findings import FindingsError
from tunemerge.yamlfile import MAX_BYTES, load_yaml, parse_documents, parse_yaml


def test_values_and_lines() -> None:
    data, lines = parse_yaml("a: 1\nb:\n  - x: 2e-5\n  - no\nc: {d: .inf, e: null, f: true, '5': -.inf}\n", "f.yaml")
    assert data == {
        "a": 1,
        "b": [{"x": 2e-5}, "no"],
        "c": {"d": math.inf, "e": None, "f": True, "5": -math.inf},
    }
    assert lines[()] == 1
    assert lines["a",] == 1
    assert lines["b", 0, "x"] == 3
    assert lines["b", 1] == 4
    assert lines["c", "d"] == 5


def test_yaml_1_1_surprises_stay_text() -> None:
    data, _ = parse_yaml("[yes, off, 1:30, 2024-01-01, 0x1F, '1', 1_000]", "f")
    assert data == ["yes", "off", "1:30", "2024-01-01", "0x1F", "1", "1_000"]


def test_numbers() -> None:
    data, _ = parse_yaml("[1., .5, 1e3, -0.25, +3, .nan, 010]", "f")
    assert data[:5] == [1.0, 0.5, 1000.0, -0.25, 3]
    assert math.isnan(data[5]) and data[6] == 10


def test_empty_file_is_none(tmp_path: Path) -> None:
    path = tmp_path / "e.yaml"
    path.write_text("# nothing\n")
    assert load_yaml(path) == (None, {(): 1})


def test_all_duplicates_at_once_with_lines() -> None:
    with pytest.raises(FindingsError) as caught:
        parse_yaml("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n", "s.yaml")
    assert {(f.code, f.where) for f in caught.value.findings} == {
        ("yaml-duplicate-key", "s.yaml:4"),
        ("yaml-duplicate-key", "s.yaml:5"),
    }
    assert "'a' is given twice; first in line 1" in str(caught.value)


def test_merge_keys_fill_in_what_is_not_given() -> None:
    data, lines = parse_yaml("d: &d {x: 1, y: 2}\ne: {z: 0}\nm:\n  <<: *d\n  y: 3\n", "f")
    assert data["m"] == {"x": 1, "y": 3}
    assert lines["m", "y"] == 5 and lines["m", "x"] == 1


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a: [1, 2\n", "yaml-syntax"),
        ("a: 1\n---\nb: 2\n", "yaml-syntax"),
        ("a: !!python/object/apply:os.system [ls]\n", "yaml-tag"),
        ("a: !!int x\n", "yaml-tag"),
        ("? [1, 2]\n: 3\n", "yaml-key"),
        ("&a [*a]\n", "yaml-depth"),
        ("&a {<<: *a}\n", "yaml-depth"),
        ("a: {<<: 3}\n", "yaml-merge"),
        ("[" * 5000 + "]" * 5000, "yaml-depth"),
        ("[" * 100 + "]" * 100, "yaml-depth"),
        ("a: &x 1\nb: [" + "*x," * 200 + "]\n", "yaml-aliases"),
        ("a: \x00", "yaml-syntax"),
    ],
)
def test_refused(text: str, code: str) -> None:
    with pytest.raises(FindingsError) as caught:
        parse_yaml(text, "f.yaml")
    assert caught.value.findings[0].code == code
    assert "f.yaml" in caught.value.findings[0].where


@pytest.mark.parametrize("inner", ["[]", "{}", "1"])
def test_alias_bomb(inner: str) -> None:
    levels = [f"l0: &l0 {inner}"] + [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]" for i in range(1, 10)]
    with pytest.raises(FindingsError, match="values once aliases"):
        parse_yaml("\n".join(levels), "bomb.yaml")
    merging = ["l0: &l0 {}"] + [f"l{i}: &l{i} {{<<: [{', '.join([f'*l{i - 1}'] * 10)}]}}" for i in range(1, 10)]
    with pytest.raises(FindingsError, match="values once aliases"):
        parse_yaml("\n".join(merging), "bomb.yaml")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FindingsError, match="No such file"):
        load_yaml(tmp_path / "missing.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9\n")
    with pytest.raises(FindingsError, match="not UTF-8 at byte 3"):
        load_yaml(tmp_path / "latin.yaml")
    (tmp_path / "big.yaml").write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(FindingsError, match="larger than"):
        load_yaml(tmp_path / "big.yaml")


def test_documents_count_their_lines_from_the_top() -> None:
    (first, _), (second, lines) = parse_documents("a: 1\n---\nb: {c: 2}\n", "two.yaml")
    assert first == {"a": 1} and second == {"b": {"c": 2}}
    assert lines["b", "c"] == 3
    with pytest.raises(FindingsError) as caught:
        parse_documents("a: 1\na: 2\n---\nb: 1\nb: 2\n", "two.yaml")
    assert [f.where for f in caught.value.findings] == ["two.yaml:2", "two.yaml:5"]
    assert parse_documents("", "empty.yaml") == []
