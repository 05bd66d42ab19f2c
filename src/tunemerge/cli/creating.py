"""`tunemerge new`: a file that registers something of one's own, and the test of what all such things keep."""

from __future__ import annotations

import keyword
import re
from importlib import resources
from pathlib import Path

from tunemerge.cli.listing import registry_of
from tunemerge.cli.output import answer, screen
from tunemerge.errors import UsageError
from tunemerge.registry import nearest
from tunemerge.store.atomic import write_file

KINDS = {"method": "methods: [{}]", "strategy": "strategies: [{}]", "metric": "metric: {}", "task": "task: {}"}
"""What can be made, and how a study names it."""

_PLURAL = {"method": "methods", "strategy": "strategies", "metric": "metrics", "task": "tasks"}


def create(kind: str, name: str, folder: Path) -> None:
    """Write NAME.py and test_NAME.py. Raises UsageError, with nothing written, where one of them is there already."""
    if kind not in KINDS:
        raise UsageError(f"unknown kind {kind!r}{nearest(kind, list(KINDS))}")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        like = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        hint = f", for example {like}" if re.fullmatch(r"[a-z][a-z0-9_]*", like) and not keyword.iskeyword(like) else ""
        raise UsageError(f"{name!r}: a name has small letters, digits and _, and begins with a letter{hint}")
    registry = registry_of(_PLURAL[kind])
    if name in registry:
        raise UsageError(f"there is a {registry.kind} {name!r} already, in {registry.origin(name)}; take another name")
    files = {folder / f"{name}.py": f"{kind}.txt", folder / f"test_{name}.py": f"test_{kind}.txt"}
    there = [str(file) for file in files if file.exists()]
    if there:
        raise UsageError(f"{', '.join(there)}: there already; nothing was written")
    for file, template in files.items():
        text = resources.files("tunemerge.cli").joinpath("templates", template).read_text("utf-8")
        write_file(file, text.replace("__NAME__", name).encode())
    own, test = files
    screen().print(
        f"{own}\n{test}\n\nThe test:   pytest {test.name}\n"
        f"In a study: plugins: [{own.name}]\n            {KINDS[kind].format(name)}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    answer(kind=kind, name=name, files=[str(own), str(test)])
