"""Images as tables: a folder with a folder a class, and NPZ files of arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from tunemerge.errors import UsageError
from tunemerge.registry import listed

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")


def is_image_folder(place: Path) -> bool:
    """Whether all that a folder has are folders with images in them."""
    inside = [p for p in place.iterdir() if not p.name.startswith(".")] if place.is_dir() else []
    return bool(inside) and all(p.is_dir() and any(c.suffix.lower() in SUFFIXES for c in p.iterdir()) for p in inside)


def read_image_folder(folder: Path) -> pd.DataFrame:
    """`image` (a path inside the folder) and `label` (the folder that it lies in), in the order of names.

    Raises UsageError where no folder inside has an image.
    """
    classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    files = [
        (file, c.name)
        for c in classes
        for file in sorted(c.rglob("*"))
        if file.suffix.lower() in SUFFIXES and file.is_file()
    ]
    if not files:
        seen = f"; it has {listed(sorted(p.name for p in folder.iterdir()), 4)}" if any(folder.iterdir()) else ""
        raise UsageError(f"{folder}: no image in a folder of a class (cat/1.png, dog/1.png){seen}")
    paths, labels = zip(*files, strict=True)
    return pd.DataFrame({"image": [p.relative_to(folder).as_posix() for p in paths], "label": list(labels)})


def read_npz(path: Path) -> pd.DataFrame:
    """A column an array, a row for each entry of their first axis: arrays of one axis hold values, those of three
    (height, width) or four (height, width, channels) images. Nothing is unpickled.

    `x_train` and `y_train` with `x_test` and `y_test`, as many sets come, are `image`, `label` and `part`. Raises
    UsageError where the arrays have other numbers of entries, or none is an image.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except ValueError as e:
        raise UsageError(f"{path}: holds objects, which would have to be unpickled; save plain arrays ({e})") from e
    arrays = _joined(arrays)
    lengths = {name: len(a) if a.ndim else 0 for name, a in arrays.items()}
    images = [name for name, a in arrays.items() if a.ndim in (3, 4)]
    if not images:
        raise UsageError(
            f"{path}: no array of images, (n, height, width) or (n, height, width, channels); it has {_shapes(arrays)}"
        )
    if len(set(lengths.values())) > 1:
        raise UsageError(f"{path}: the arrays have different numbers of rows: {_shapes(arrays)}")
    wrong = [name for name, a in arrays.items() if a.ndim not in (1, 3, 4)]
    if wrong:
        raise UsageError(f"{path}: {wrong[0]} is neither values nor images: {_shapes(arrays)}")
    return pd.DataFrame({name: list(a) if a.ndim > 1 else a for name, a in arrays.items()})


def _joined(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays; the parts of a set that comes in parts one after the other."""
    parts = [name[2:] for name in arrays if name.startswith("x_") and f"y_{name[2:]}" in arrays]
    if not parts or len(arrays) != 2 * len(parts):
        return arrays
    part = np.concatenate([np.full(len(arrays[f"x_{p}"]), p) for p in parts])
    return {
        "image": np.concatenate([arrays[f"x_{p}"] for p in parts]),
        "label": np.concatenate([arrays[f"y_{p}"] for p in parts]),
        "part": part,
    }


def _shapes(arrays: dict[str, np.ndarray]) -> str:
    return listed(f"{name} {list(a.shape)}" for name, a in arrays.items())
