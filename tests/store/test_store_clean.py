"""What a store takes of the disk, and what is left when its steps are removed."""

import os

import pytest

from tunemerge.errors import StoreError
from tunemerge.store.artifacts import Store
from tunemerge.store.clean import disk_usage, finished_steps, remove_steps
from tunemerge.store.scratch import _OWNED


@pytest.fixture
def store(tmp_path):
    """Two steps, the second of which is a second name of the first one's file; nobody is at work."""
    store = Store(tmp_path / "store")
    for key in ("aaaa", "bbbb"):
        folder = store.scratch(key)
        if key == "aaaa":
            (folder / "weights").write_bytes(bytes(100_000))
        else:
            os.link(store.path("aaaa") / "weights", folder / "weights")
        store.publish(key, "tune", folder, {"seconds": 1.0}, {})
    store.journal.append({"event": "test_opened", "plan": "p", "tests": ["t"]})
    _OWNED.pop((os.getpid(), store.root / "tmp"))
    for lock in (store.root / "tmp").glob("[0-9a-f]*.lock"):
        lock.unlink()
    return store


def test_a_file_with_two_names_is_counted_once(store):
    assert 100_000 < disk_usage(store.root) < 105_000
    assert len(finished_steps(store.root)) == 2
    assert disk_usage(store.root / "nowhere") == 0 == len(finished_steps(store.root / "nowhere"))


def test_what_was_opened_is_remembered_when_the_steps_are_gone(store):
    remove_steps(store.root)
    assert store.get("aaaa") is None and finished_steps(store.root) == []
    assert [e["event"] for e in store.journal.read()] == ["test_opened"]
    assert disk_usage(store.root) < 2000
    remove_steps(store.root)
    remove_steps(store.root / "nowhere")
    assert not (store.root / "nowhere").exists()


def test_nothing_is_removed_while_somebody_is_at_work(store):
    store.scratch("cccc")
    with pytest.raises(StoreError, match="a run is at work"):
        remove_steps(store.root)
    assert store.get("aaaa") is not None
