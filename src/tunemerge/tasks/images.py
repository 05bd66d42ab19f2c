"""Images between a person's table, rows and a model: opened, made alike, and as a model wants them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tunemerge.checkpoint.model import read_json
from tunemerge.errors import UsageError

PREPROCESSOR = "preprocessor_config.json"
_PROCESSOR = "processor_config.json"  # of models of images and texts: the same, under "image_processor"


def open_image(cell: Any, folder: str) -> np.ndarray:
    """What a cell holds or names, uint8 (height, width, 1 or 3): an array, the bytes of an image file, a data set's
    {bytes, path}, or a path inside `folder`. Raises ValueError or OSError, saying what is wrong."""
    if isinstance(cell, np.ndarray):
        return _array(cell)
    if isinstance(cell, Mapping):
        cell = cell.get("bytes") or cell.get("path")
    Image = _pillow()
    source = io.BytesIO(cell) if isinstance(cell, bytes) else Path(folder) / str(cell)
    if isinstance(source, Path) and not source.is_file():
        raise OSError(f"no such file: {source}")
    with Image.open(source) as image:
        plain = image.convert("L" if image.mode in ("1", "L", "I;16", "I", "F", "LA") else "RGB")
        return _array(np.asarray(plain))


def _array(values: np.ndarray) -> np.ndarray:
    whole = values[..., None] if values.ndim == 2 else values
    if whole.ndim != 3 or whole.shape[2] not in (1, 3):
        raise ValueError(
            f"an array of the shape {list(values.shape)}: expected (height, width), or 1 or 3 channels last"
        )
    if whole.dtype == np.uint8:
        return whole
    if not np.isfinite(whole).all() or whole.min() < 0 or whole.max() > 255:
        raise ValueError("values outside of 0 to 255")
    scaled = whole * 255 if np.issubdtype(whole.dtype, np.floating) and whole.max() <= 1 else whole
    return np.asarray(np.rint(scaled), np.uint8)


def resized(image: np.ndarray, height: int, width: int, resample: int = 2) -> np.ndarray:
    """Another size, by Pillow's filter of this number (2: bilinear)."""
    if image.shape[:2] == (height, width):
        return image
    Image = _pillow()
    flat = image[..., 0] if image.shape[2] == 1 else image
    small = np.asarray(Image.fromarray(flat).resize((width, height), resample))
    return small[..., None] if small.ndim == 2 else small


def as_png(image: np.ndarray) -> bytes:
    """Without loss; the same image gives the same bytes."""
    Image = _pillow()
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def from_png(data: bytes) -> np.ndarray:
    """uint8 (height, width, channels)."""
    Image = _pillow()
    with Image.open(io.BytesIO(data)) as image:
        array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array


def _pillow() -> Any:
    """Its module for images. UsageError where it is not installed."""
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise UsageError("images need Pillow: pip install 'tunemerge[images]'") from None
    return Image


@dataclass(frozen=True)
class Preprocessing:
    """What a preprocessor_config.json asks for, as Hugging Face's processors read it: resize (to `height` x `width`
    whole, or so that the shorter side is `shortest`, the middle cut out), scale, normalise with a mean and spread a
    channel."""

    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    shortest: int | None = None
    resample: int = 2
    scale: float = 1 / 255

    @property
    def channels(self) -> int:
        return len(self.mean)

    def pixels(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """uint8 (n, height, width, channels); grey images have their one channel three times where colour is wanted."""
        out = np.empty((len(images), self.height, self.width, self.channels), np.uint8)
        for target, image in zip(out, images, strict=True):
            target[...] = self._cut(image)
        return out

    def _cut(self, image: np.ndarray) -> np.ndarray:
        if self.shortest is None:
            return resized(image, self.height, self.width, self.resample)
        factor = self.shortest / min(image.shape[:2])
        height, width = (max(self.shortest, round(side * factor)) for side in image.shape[:2])
        whole = resized(image, height, width, self.resample)
        top, left = (height - self.height) // 2, (width - self.width) // 2
        return whole[top : top + self.height, left : left + self.width]

    def values(self, pixels: np.ndarray) -> np.ndarray:
        """float32 (n, channels, height, width)."""
        mean, std = (np.array(v, np.float32) for v in (self.mean, self.std))
        scaled = (pixels.astype(np.float32) * np.float32(self.scale) - mean) / std
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))

    def write(self, folder: Path) -> None:
        """As a preprocessor_config.json of a plain resize."""
        found = {
            "do_resize": True,
            "size": {"height": self.height, "width": self.width},
            "resample": self.resample,
            "do_center_crop": False,
            "do_rescale": True,
            "rescale_factor": self.scale,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }
        (folder / PREPROCESSOR).write_text(json.dumps(found, indent=2) + "\n", "utf-8")


def write_preprocessing(source: Path, out: Path, size: tuple[int, int], channels: int) -> None:
    """The preprocessor's file of a model as it is, or what `preprocessing_of` says where there is none."""
    files = [name for name in (PREPROCESSOR, _PROCESSOR) if (source / name).is_file()]
    for name in files:
        (out / name).write_bytes((source / name).read_bytes())
    if not files:
        preprocessing_of(source, size, channels).write(out)


def preprocessing_of(folder: Path, size: tuple[int, int], channels: int) -> Preprocessing:
    """What the model's folder asks for. Where it has no preprocessor: the size and channels that its config.json names,
    else those given, and values from -1 to 1."""
    found = _asked_for(folder)
    if found is None:
        config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
        config = config.get("vision_config", config)
        side = config.get("image_size")
        height, width = (side, side) if isinstance(side, int) else tuple(side) if side else size
        count = int(config.get("num_channels") or channels)
        return Preprocessing(height, width, (0.5,) * count, (0.5,) * count)
    size_key, crop = found.get("size") or {}, found.get("crop_size") if found.get("do_center_crop") else None
    asked = {"height": size_key, "width": size_key} if isinstance(size_key, int) else dict(size_key)
    shortest = asked.get("shortest_edge")
    cut = crop or ({"height": shortest, "width": shortest} if shortest else asked)
    cut = {"height": cut, "width": cut} if isinstance(cut, int) else cut
    if shortest and not crop and shortest < 384 and found.get("crop_pct"):  # ConvNeXt's processor
        shortest = int(shortest / found["crop_pct"])
    mean = found.get("image_mean") if found.get("do_normalize", True) else None
    std = found.get("image_std") if found.get("do_normalize", True) else None
    count = len(mean) if isinstance(mean, list) else channels
    return Preprocessing(
        int(cut.get("height", size[0])) if found.get("do_resize", True) else size[0],
        int(cut.get("width", size[1])) if found.get("do_resize", True) else size[1],
        tuple(mean) if isinstance(mean, list) else (mean or 0.0,) * count,
        tuple(std) if isinstance(std, list) else (std or 1.0,) * count,
        shortest if found.get("do_resize", True) else None,
        int(found.get("resample", 2)),
        float(found.get("rescale_factor", 1 / 255)) if found.get("do_rescale", True) else 1.0,
    )


def _asked_for(folder: Path) -> dict[str, Any] | None:
    """What the file of a preprocessor says, where there is one."""
    if (folder / PREPROCESSOR).is_file():
        return dict(read_json(folder / PREPROCESSOR))
    found = read_json(folder / _PROCESSOR).get("image_processor") if (folder / _PROCESSOR).is_file() else None
    return None if found is None else dict(found)


@dataclass(frozen=True)
class Images:
    """Rows that are images of one size, kept as bytes; a batch is made into the model's numbers when it is wanted."""

    pixels: np.ndarray
    preprocessing: Preprocessing

    @cached_property
    def lengths(self) -> np.ndarray:
        """1 for every row, int64 (n,)."""
        return np.ones(len(self.pixels), np.int64)

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, rows: Sequence[int] | np.ndarray, length: int | None = None) -> dict[str, np.ndarray]:
        return {"pixel_values": self.preprocessing.values(self.pixels[np.asarray(rows)])}
