"""What was fitted to training rows, in a file of the model's folder, which merges copy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tunemerge.checkpoint.preprocessing import FILE


def write_fitted(folder: Path, fitted: Any) -> None:
    """Nothing is written where nothing was fitted."""
    if fitted is not None:
        (folder / FILE).write_text(json.dumps(fitted, indent=1, sort_keys=True, allow_nan=False) + "\n", "utf-8")


def read_fitted(folder: Path) -> Any:
    """None where nothing was fitted."""
    file = folder / FILE
    return json.loads(file.read_text("utf-8")) if file.is_file() else None
