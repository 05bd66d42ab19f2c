"""Files outside artifacts (rows) with their digest beside them, so that `verify` can tell whether they are sound."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from tunemerge.store.atomic import make_folder, write_file
from tunemerge.store.digest import seal, unseal

SEAL = ".seal"


def write_sealed(path: Path, data: bytes) -> None:
    """Write the file and its seal, each whole; nothing is written where both stand there already."""
    line = seal({"size": len(data), "sha256": hashlib.sha256(data).hexdigest()})
    for file, content in ((path, data), (path.with_name(path.name + SEAL), line)):
        if not file.exists() or file.read_bytes() != content:
            make_folder(file.parent)
            write_file(file, content)


def damage(path: Path) -> str | None:
    """What is wrong with a sealed file or its seal; None where nothing is."""
    try:
        expected = unseal(path.with_name(path.name + SEAL).read_bytes())
    except FileNotFoundError:
        return "its seal is missing"
    except (ValueError, KeyError) as problem:
        return f"its seal is damaged ({problem})"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return "the file is missing"
    found: dict[str, Any] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    if found == expected:
        return None
    return (
        f"found {found['size']} bytes with SHA-256 {found['sha256'][:16]}..., "
        f"expected {expected['size']} with {expected['sha256'][:16]}..."
    )
