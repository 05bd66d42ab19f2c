import hashlib
import os

import pytest

from tunemerge.errors import StoreError
from tunemerge.store.digest import digest_file, digest_folder, digest_json, seal, unseal


def test_digest_json_is_pinned():
    text = r'{"a":"\u00e4","b":[1,2.5,null,true]}'
    assert digest_json({"b": [1, 2.5, None, True], "a": "ä"}) == hashlib.sha256(text.encode()).hexdigest()


def test_digest_json_ignores_order_of_keys_and_kind_of_sequence_only():
    assert digest_json({"a": 1, "b": (1, 2)}) == digest_json({"b": [1, 2], "a": 1})
    assert digest_json([1, 2]) != digest_json([2, 1])
    assert digest_json({"a": 1}) != digest_json({"a": "1"})
    with pytest.raises(ValueError):
        digest_json({"a": float("nan")})


def test_digest_of_empty_file_is_the_known_sha256(tmp_path):
    (tmp_path / "f").write_bytes(b"")
    assert digest_file(tmp_path / "f") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_folder_digest_depends_on_names_and_bytes_only(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "x.txt").write_text("x")
        (tmp_path / name / "y.txt").write_text("yy")
    (tmp_path / "two" / "y.txt").chmod(0o600)
    os.utime(tmp_path / "two" / "y.txt", (0, 0))
    (tmp_path / "two" / "empty").mkdir()
    digest, files = digest_folder(tmp_path / "one")
    assert list(files) == ["deep/x.txt", "y.txt"]
    assert files["y.txt"]["size"] == 2
    assert digest_folder(tmp_path / "two")[0] == digest
    (tmp_path / "two" / "y.txt").write_text("yz")
    assert digest_folder(tmp_path / "two")[0] != digest
    (tmp_path / "two" / "y.txt").write_text("yy")
    (tmp_path / "two" / "y.txt").rename(tmp_path / "two" / "z.txt")
    assert digest_folder(tmp_path / "two")[0] != digest


def test_links_are_read_through_or_refused(tmp_path):
    (tmp_path / "blob").write_text("data")
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "f").write_text("data")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "f").symlink_to(tmp_path / "blob")
    assert digest_folder(tmp_path / "linked") == digest_folder(tmp_path / "plain")
    with pytest.raises(StoreError, match="linked/f"):
        digest_folder(tmp_path / "linked", links=False)
    os.mkfifo(tmp_path / "plain" / "pipe")
    with pytest.raises(StoreError, match="plain/pipe"):
        digest_folder(tmp_path / "plain")


def test_every_single_bit_flip_of_a_sealed_line_is_found():
    value = {"key": "abc", "n": 1.5, "text": 'quote " and ü'}
    line = seal(value)
    assert unseal(line) == value
    for bit in range(len(line) * 8):
        flipped = bytearray(line)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises((ValueError, KeyError)):
            unseal(bytes(flipped))
