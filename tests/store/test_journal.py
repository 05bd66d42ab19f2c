import os
import subprocess
import sys

import pytest

from tunemerge.errors import StoreError
from tunemerge.store.journal import Journal

ENTRIES = [{"n": n, "text": "x" * (n * 3000)} for n in range(4)]


def filled(path):
    journal = Journal(path / "sub" / "journal.jsonl")
    for entry in ENTRIES:
        journal.append(entry)
    return journal


def test_entries_come_back_in_order(tmp_path):
    assert Journal(tmp_path / "none").read() == []
    assert filled(tmp_path).read() == ENTRIES


def test_a_tail_torn_at_any_byte_is_not_read_and_is_cut_off_by_the_next_append(tmp_path):
    journal = filled(tmp_path)
    whole = journal.path.read_bytes()
    last = len(whole) - len(whole.splitlines(keepends=True)[-1])
    for cut in [*range(last + 1, last + 120), *range(len(whole) - 120, len(whole))]:
        journal.path.write_bytes(whole[:cut])
        assert journal.read() == ENTRIES[:-1]
        journal.append({"after": cut})
        assert journal.read() == [*ENTRIES[:-1], {"after": cut}]


def test_a_tail_of_zeros_after_a_power_cut_is_cut_off(tmp_path):
    journal = filled(tmp_path)
    with journal.path.open("ab") as file:
        file.write(b"\0" * 9000)
    assert journal.read() == ENTRIES
    journal.append({"more": 1})
    assert journal.read() == [*ENTRIES, {"more": 1}]


def test_a_last_line_that_lost_a_block_of_its_middle_is_torn(tmp_path):
    journal = filled(tmp_path)
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole[:-5000] + b"\0" * 4096 + whole[-904:])
    assert journal.read() == ENTRIES[:-1]
    journal.append({"more": 1})
    assert journal.read() == [*ENTRIES[:-1], {"more": 1}]


def test_a_flipped_bit_of_the_last_line_is_damage_and_cuts_nothing_off(tmp_path):
    journal = Journal(tmp_path / "j")
    for entry in ({"a": 1}, {"b": "two"}):
        journal.append(entry)
    whole = journal.path.read_bytes()
    last = len(whole) - len(whole.splitlines(keepends=True)[-1])
    for at in range(last, len(whole)):
        for bit in range(8):
            flipped = whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]
            journal.path.write_bytes(flipped)
            with pytest.raises(StoreError, match="damaged"):
                journal.read()
            with pytest.raises(StoreError, match="damaged"):
                journal.append({"c": 3})
            assert journal.path.read_bytes() == flipped and journal.damage()


def test_a_torn_first_line_leaves_an_empty_journal(tmp_path):
    journal = Journal(tmp_path / "j")
    journal.path.write_bytes(b'{"sha2')
    assert journal.read() == []
    journal.append({"a": 1})
    assert journal.read() == [{"a": 1}]


def test_a_damaged_middle_line_is_an_error_that_names_it(tmp_path):
    journal = filled(tmp_path)
    lines = journal.path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"xxx", b"xyx", 1)
    journal.path.write_bytes(b"".join(lines))
    with pytest.raises(StoreError, match="line 2 of 4"):
        journal.read()


@pytest.mark.parametrize("call", ["open", "write", "fsync"])
def test_a_failed_append_leaves_the_journal_as_it_was(tmp_path, monkeypatch, call):
    journal = filled(tmp_path)
    real = os.write

    def full(fd, *args):
        if call == "write":
            real(fd, bytes(args[0])[:10])  # a part gets written before the disk is full
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(StoreError, match=r"journal\.jsonl.*No space left"):
        journal.append({"lost": True})
    monkeypatch.undo()
    assert journal.read() == ENTRIES
    journal.append({"kept": True})
    assert journal.read() == [*ENTRIES, {"kept": True}]


def test_many_writers_lose_nothing(tmp_path):
    program = (
        "import sys; from pathlib import Path; from tunemerge.store.journal import Journal\n"
        "for n in range(50): Journal(Path(sys.argv[1])).append({'writer': sys.argv[2], 'n': n})"
    )
    path = tmp_path / "j"
    writers = [subprocess.Popen([sys.executable, "-c", program, str(path), str(w)]) for w in range(3)]
    assert [w.wait(60) for w in writers] == [0, 0, 0]
    entries = Journal(path).read()
    for w in range(3):
        assert [e["n"] for e in entries if e["writer"] == str(w)] == list(range(50))
