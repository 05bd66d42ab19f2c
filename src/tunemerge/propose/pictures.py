"""Which sources are sets of images: folders with a folder a class, saved data sets, and NPZ files."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunemerge.checkpoint.locate import locate
from tunemerge.checkpoint.model import open_checkpoint
from tunemerge.data.load import FOLDER
from tunemerge.errors import TunemergeError
from tunemerge.propose.labels import sorted_labels
from tunemerge.propose.tables import Source
from tunemerge.tasks.images import open_image

IMAGES, CAPTIONS = "image-classification", "image-text"
_LARGEST, _LOOKED_AT = 224, 50


@dataclass(frozen=True)
class Pictures:
    """The keys of such a task in the study file, its columns, and why."""

    keys: dict[str, str | int]
    image: str
    label: str
    why: str
    raw: tuple[str, ...]


def picture_kind(said: str | None, base: str | None) -> tuple[str, str]:
    """The kind for sets of images, and why: what the person says, captions where the base is a CLIP."""
    if said is not None:
        return said, "as you said"
    with suppress(TunemergeError):
        if base and open_checkpoint(locate(base, download=False)).config.get("model_type") == "clip":
            return CAPTIONS, "inferred: the base is a CLIP"
    return IMAGES, ""


def pictures_of(source: Source, said: str | None, label: str | None = None) -> Pictures | None:
    """None where the table is for something else, or the person said so. `label`: the column that the person named."""
    if said not in (None, IMAGES, CAPTIONS):
        return None
    file = next(iter(source.files.values()))
    table = source.table
    arrays = [str(c) for c in table.columns if len(table) and _is_image(table[c].iloc[0])]
    if not arrays and not ("image" in table and file.is_dir()):
        return None
    image = arrays[0] if arrays else "image"
    values = [str(c) for c in table.columns if str(c) != image]
    answer = label or next((c for c in values if c.lower() in ("label", "labels", "y", "class", "target")), None)
    if answer not in values:
        return None
    labels = table[answer].astype(str).to_numpy()
    raw = tuple(sorted_labels(sorted(set(labels))))
    keys: dict[str, str | int] = {} if (image, answer) == ("image", "label") else {"image": image, "label": answer}
    keys |= _size(source, image)
    return Pictures(keys, image, answer, "a folder a class" if not arrays else "a column of images", raw)


def _is_image(cell: Any) -> bool:
    """An array, or what a saved data set has for an image."""
    return isinstance(cell, np.ndarray) or (isinstance(cell, Mapping) and {"bytes", "path"} <= cell.keys())


def _size(source: Source, image: str) -> dict[str, int]:
    """The side to bring images to, where they are of several sizes or large: the middle of their shorter sides."""
    folder, shapes = source.table.attrs.get(FOLDER, ""), []
    for cell in source.table[image].iloc[:: max(1, len(source.table) // _LOOKED_AT)]:
        try:
            shapes.append(open_image(cell, folder).shape[:2])
        except (OSError, ValueError):
            continue  # said by the check
    shorter = sorted(min(shape) for shape in shapes)
    middle = shorter[len(shorter) // 2] if shorter else _LARGEST
    return {} if len(set(shapes)) == 1 and middle <= _LARGEST else {"size": min(middle, _LARGEST)}
