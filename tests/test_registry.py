"""A registry whose folder has a file that can't be imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunemerge.registry import REGISTRIES, Registry


def test_a_failing_import_is_heard_of_every_time_and_forgotten_once_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "some_things"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "a.py").write_text("from some_kind import THINGS\nTHINGS.add('one', 1)\n")
    (package / "b.py").write_text("from some_kind import THINGS\nTHINGS.add('two', 2)\nimport not_there_at_all\n")
    (tmp_path / "some_kind.py").write_text(
        "from tunemerge.registry import Registry\nTHINGS = Registry('thing', 'some_things')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    before = list(REGISTRIES)
    import some_kind  # type: ignore[import-not-found]

    things: Registry[int] = some_kind.THINGS
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
            things.names()
    (package / "not_there_at_all.py").touch()
    monkeypatch.syspath_prepend(package)
    assert dict(things) == {"one": 1, "two": 2}
    REGISTRIES[:] = before
