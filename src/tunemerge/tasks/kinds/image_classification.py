"""Image classification: one image a row, one label of several; Hugging Face's classifiers, or made networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from tunemerge.checkpoint.model import read_json
from tunemerge.data.load import FOLDER
from tunemerge.errors import UsageError
from tunemerge.findings import Finding, error
from tunemerge.registry import listed
from tunemerge.tasks import hub, made
from tunemerge.tasks.classes import class_findings, cross_entropies
from tunemerge.tasks.columns import Labels, label_column, label_names
from tunemerge.tasks.flops import forward_flops
from tunemerge.tasks.hub_classifier import IMAGES, empty_model, with_head
from tunemerge.tasks.images import (
    PREPROCESSOR,
    Images,
    as_png,
    from_png,
    open_image,
    preprocessing_of,
    resized,
    write_preprocessing,
)
from tunemerge.tasks.labels import own_labels
from tunemerge.tasks.made_network import Description, make
from tunemerge.tasks.rows import Rows, class_targets, read_table, rows_from
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS, KindControl, Loaded, Source, TaskKind
from tunemerge.tasks.text_model import load_model

_SIDE = 28
GREY = "reads grey images, and the tasks' are coloured: say `channels: 1` in each task"


class ImageOptions(BaseModel):
    """An image and one label of several. `data` is a folder with a folder a class, an NPZ file, or a table with paths
    (relative to it) or the bytes of image files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str = Field("image", description="column of the image: a path, or the bytes of its file", examples=["scan"])
    label: str = Field("label", description="column of the label", examples=["finding"])
    labels: Labels = Field(
        {}, description="raw label value to label name; tasks that share labels share a head",
        examples=[{"0": "benign", "1": "malignant"}],
    )  # fmt: skip
    size: int | None = Field(
        None, ge=4, le=2048, description="side in pixels to which images are brought when they are read (the model's "
        "own preprocessing follows); absent: as they are, all of one size", examples=[32],
    )  # fmt: skip
    channels: Literal[1, 3] | None = Field(
        None, description="1: grey, 3: colour; absent: as the images are", examples=[3]
    )


def pixel_logistic(spec: Spec, train: Rows, rows: Rows, seed: int) -> np.ndarray:
    """Log probabilities of a logistic regression on pixels, of images of at most 28 x 28; how strongly it is shrunk is
    chosen by three-fold cross-validation on the training rows, as far as every label has three."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    known = np.unique(train.target)
    out: np.ndarray = np.full((len(rows), len(spec.labels)), -30.0)
    if len(known) < 2:
        out[:, known] = 0.0
        return out
    model = LogisticRegression(C=0.1, max_iter=200, tol=1e-3)
    if np.unique(train.target, return_counts=True)[1].min() >= 3:
        model = GridSearchCV(model, {"C": [0.01, 0.1, 1.0]}, scoring="neg_log_loss", cv=3)
    model.fit(_flat(train), train.target, sample_weight=train.weight)
    out[:, known] = model.predict_log_proba(_flat(rows))
    return np.asarray(np.clip(out, -30.0, None))


def _flat(rows: Rows) -> np.ndarray:
    side = min(_SIDE, *rows.features.shape[1:3])
    small = np.stack([resized(image, side, side) for image in rows.features])
    return np.asarray(small.reshape(len(small), -1) / 127.5 - 1, np.float32)


class ImageClassification(TaskKind):
    """Rows have an `image` (PNG, all of one size) and a `label`; a prediction is one logit a label."""

    name = "image-classification"
    prediction = "classes"
    metric = "accuracy"
    Options: ClassVar[type[BaseModel]] = ImageOptions
    target = ("label",)
    head_names: ClassVar[tuple[str, ...]] = ("classifier.",)
    opaque = ("image",)
    controls: ClassVar[Mapping[str, KindControl]] = {
        "pixel_logistic": KindControl(pixel_logistic, "Logistic regression on pixels, no checkpoint.", version=2)
    }

    def source(self, options: ImageOptions) -> Source:
        columns = {"image": options.image, "label": options.label}
        return Source(columns, frozenset(columns))

    def convert(self, table: pd.DataFrame, options: ImageOptions, where: str) -> tuple[pd.DataFrame, list[Finding]]:
        label, found = label_column(table[options.label], options.labels, where)
        folder = table.attrs.get(FOLDER, "")
        images: dict[int, np.ndarray] = {}
        faults: dict[int, str] = {}
        for row, cell in zip(table.index, table[options.image], strict=True):
            try:
                images[row] = _as_asked(open_image(cell, folder), options)
            except (OSError, ValueError, SyntaxError) as problem:
                said = _said(problem)
                named = f"{cell}: " if isinstance(cell, str) and cell not in said else ""
                faults[row] = f"data row {row + 1} ({named}{said})"
        if faults:
            text = f"{len(faults)} images can't be opened: {listed(faults.values(), 3)}"
            found.append(error("bad-image", text, where, "mend these files, or delete the rows"))
        found += _unlike(images, where)
        cells = [as_png(images[row]) if row in images else b"" for row in table.index]
        return pd.DataFrame({"image": cells, "label": label}, index=table.index), found

    def spec(self, options: ImageOptions, rows: Sequence[pd.DataFrame]) -> Spec:
        shape = from_png(rows[0]["image"].iloc[0]).shape
        return Spec(self.name, label_names(rows), {"size": list(shape[:2]), "channels": shape[2]})

    def own_labels(self, config: Mapping[str, Any]) -> tuple[str, ...] | None:
        if made.is_made(config):
            return made.own_labels(config)
        classifier = any(str(a).endswith("ForImageClassification") for a in config.get("architectures") or [])
        return tuple(own_labels(config)) if classifier else None

    def check(self, spec: Spec, parts: Mapping[str, pd.DataFrame], where: str) -> list[Finding]:
        return class_findings(parts, where)

    def refuses(self, config: Mapping[str, Any], spec: Spec | None = None) -> str | None:
        if not made.is_made(config) and "num_channels" not in config and "image_size" not in config:
            return f"a {config.get('model_type', 'model of unnamed type')} reads no images"
        if spec is not None and config.get("num_channels") == 1 and spec.options["channels"] == 3:
            return GREY
        return None

    def row_flops(self, folder: Path, spec: Spec) -> float:
        made_model = made.is_made(read_json(folder / "config.json"))
        return _row_flops(folder, made_model, len(spec.labels), _size(spec), spec.options["channels"])

    def read(self, paths: Sequence[Path], spec: Spec) -> Rows:
        """Features are uint8 (n, height, width, channels)."""
        table = read_table(paths, ["image", "label"])
        pixels = [from_png(data) for data in table["image"].to_pylist()]
        shape = (*spec.options["size"], spec.options["channels"])
        strange = [i for i, image in enumerate(pixels) if image.shape != tuple(shape)]
        if strange:
            found = pixels[strange[0]].shape
            raise UsageError(f"{paths[0]}: row {strange[0]}: an image of {_shape(found)}; expected {_shape(shape)}")
        return rows_from(table, np.stack(pixels), class_targets(table, spec.labels, paths))

    def initialise(
        self, folder: Path, out: Path, spec: Spec, seed: int, dropout: float | None = None, fitted: Any = None
    ) -> None:
        """As for texts: a head by the names of its labels, or a fresh one from `seed`; a made network is made."""
        write_preprocessing(folder, out, _size(spec), spec.options["channels"])
        if made.is_made(read_json(folder / "config.json")):
            made.initialise(folder, out, spec, seed, dropout)
            return
        config = hub.read_config(folder)
        hub.set_dropout(config, dropout, folder)
        self.save(Loaded(with_head(folder, config, spec.labels, seed, IMAGES), spec, folder), out)

    def load(self, folder: Path, spec: Spec, dropout: float | None = None) -> Loaded:
        if made.is_made(read_json(folder / "config.json")):
            return made.load(folder, spec, dropout)
        config = hub.read_config(folder)
        hub.same_labels(hub.label_names(config), spec.labels, folder)
        hub.set_dropout(config, dropout, folder)
        with hub.quiet():
            net = load_model(folder, config, True, IMAGES)
        return Loaded(net.eval(), spec, folder)

    def save(self, model: Loaded, out: Path) -> None:
        if hasattr(model.net, "tunemerge_made"):
            made.save(model, out)
        else:
            with hub.quiet():
                model.net.save_pretrained(out, max_shard_size="1000GB")
        if not (out / PREPROCESSOR).is_file():
            write_preprocessing(model.folder, out, _size(model.spec), model.spec.options["channels"])

    def encode(self, model: Loaded, rows: Rows, max_length: int) -> Images:
        """As the model's preprocessor says; grey images become coloured ones where the model wants these."""
        wanted = preprocessing_of(model.folder, rows.features.shape[1:3], rows.features.shape[3])
        if wanted.channels == 1 and rows.features.shape[3] == 3:
            raise UsageError(f"{model.folder}: {GREY}")
        return Images(wanted.pixels(rows.features), wanted)

    def forward(self, model: Loaded, inputs: Mapping[str, Any]) -> Any:
        if hasattr(model.net, "tunemerge_made"):
            return made.logits(model.net(inputs["pixel_values"]))
        return model.net(**inputs).logits

    def loss(self, model: Loaded, outputs: Any, inputs: Mapping[str, Any], target: Any, smoothing: float) -> Any:
        return cross_entropies(outputs, target, smoothing)

    def body(self, model: Loaded) -> Any:
        return made.body(model) if hasattr(model.net, "tunemerge_made") else model.net.base_model


@lru_cache(maxsize=8)
def _row_flops(folder: Path, made_model: bool, labels: int, size: tuple[int, int], channels: int) -> float:
    import torch

    wanted = preprocessing_of(folder, size, channels)
    image = torch.zeros(1, wanted.channels, wanted.height, wanted.width)
    if made_model:
        with torch.random.fork_rng():
            return forward_flops(make(Description.read(folder), labels), image)
    config = hub.read_config(folder)
    config.num_labels = labels
    with hub.quiet(), torch.device("meta"):
        return forward_flops(empty_model(config, IMAGES), image.to("meta"))


def _size(spec: Spec) -> tuple[int, int]:
    height, width = spec.options["size"]
    return height, width


def _as_asked(image: np.ndarray, options: ImageOptions) -> np.ndarray:
    if options.size is not None:
        image = resized(image, options.size, options.size)
    if options.channels == 1 and image.shape[2] == 3:
        grey = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
        return np.rint(grey).astype(np.uint8)[..., None]
    return np.repeat(image, 3, axis=2) if options.channels == 3 and image.shape[2] == 1 else image


def _unlike(images: Mapping[int, np.ndarray], where: str) -> list[Finding]:
    """Images of several sizes, or grey ones among coloured ones."""
    found = []
    for code, axes, what, fix in (
        ("image-sizes", slice(0, 2), "sizes (height x width)", "say `size:`, the side to bring them to"),
        ("image-channels", slice(2, 3), "numbers of channels", "say `channels: 1` (grey) or `channels: 3` (colour)"),
    ):
        first: dict[tuple[int, ...], int] = {}
        for row, image in images.items():
            first.setdefault(image.shape[axes], row)
        if len(first) > 1:
            shown = listed((f"{_shape(shape)} in data row {row + 1}" for shape, row in first.items()), 3)
            found.append(error(code, f"images of {len(first)} {what}: {shown}", where, fix))
    return found


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _said(problem: Exception) -> str:
    text = str(problem)
    return "not an image that Pillow knows" if text.startswith("cannot identify image file") else text


TASKS.add(ImageClassification.name, ImageClassification())
