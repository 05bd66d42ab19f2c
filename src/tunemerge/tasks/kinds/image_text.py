"""Images and captions: a CLIP (Radford et al. 2021, 2103.00020) that finds an image's label by the label's caption.

The model has no output layer. What it predicts of an image are the logits over the captions of all labels of its task:
the cosine of the two embeddings times the learned scale, as CLIP classifies without having seen a label. So tasks with
other labels are answered by the same tensors, and merge as one model (Ilharco et al. 2023, 2212.04089, merge eight).

What is minimised is the cross-entropy of each image over the captions of its task's labels, both towers learning:
CLIP's loss from images to texts, over every label instead of the texts of the batch. That is how models for merging are
tuned (Ilharco et al. 2022, 2208.05592, with `text_tower: frozen`). CLIP's own loss takes the other captions of the
batch as negatives, and of a dozen labels a batch has each many times: an image would be pushed away from its own
caption. The form with several positives (UniCL, Yang et al. 2022, 2204.03610) mends that, but what it says of captions
depends on which images are together in a pass: a batch in micro-batches, or shared by processes, would be another loss.
Over all labels a row's loss is its own, a label counts once, and it is what held-out rows are judged by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import pandas as pd
from pydantic import BaseModel, Field, field_validator

from tunemerge.checkpoint.model import read_json
from tunemerge.errors import UsageError
from tunemerge.findings import Finding, error, note, warning
from tunemerge.registry import listed
from tunemerge.tasks import hub
from tunemerge.tasks.captions import LABEL, CaptionedImages, SeveralCaptions, captions_of, tokens_of, told
from tunemerge.tasks.flops import forward_flops
from tunemerge.tasks.forward import BATCH
from tunemerge.tasks.images import preprocessing_of, write_preprocessing
from tunemerge.tasks.kinds.image_classification import GREY, ImageClassification, ImageOptions
from tunemerge.tasks.rows import Rows
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS, Loaded
from tunemerge.tasks.text_model import load_model, save_model

_TEXTS = ("text_model.", "text_projection.")
_LONGEST = 256  # for plans, which don't know `max_length`


class ImageTextOptions(ImageOptions):
    """An image and one label of several, whose name makes a caption."""

    caption: str = Field(
        "a photo of a {label}",
        description="what a label's caption is; {label} stands for its name (by `labels`). Where the column holds "
        "whole captions, one a class: '{label}'", examples=["a scan that shows a {label}"],
    )  # fmt: skip

    text_tower: Literal["tuned", "frozen"] = Field(
        "tuned",
        description="frozen: captions stay where the base has them, and only the tower of images learns, as in papers "
        "that merge CLIPs", examples=["frozen"],
    )  # fmt: skip

    @field_validator("caption")
    @classmethod
    def _has_the_label(cls, caption: str) -> str:
        if LABEL not in caption:
            raise ValueError(f"{caption!r} has no {LABEL}: all labels would have the same caption")
        return caption


class ImageText(ImageClassification):
    """Rows have an `image` (PNG, all of one size) and a `label`; a prediction is one logit a label: how near a CLIP
    finds the image to the label's caption.

    The model has no output layer, so tasks with other labels are answered by the same one.
    """

    name = "image-text"
    Options: ClassVar[type[BaseModel]] = ImageTextOptions
    head_names = ()
    shares_body = "clip"
    adapter_task = "FEATURE_EXTRACTION"

    def spec(self, options: Any, rows: Sequence[pd.DataFrame]) -> Spec:
        """Labels that `labels` names are scored, whether they occur or not."""
        found = super().spec(options, rows)
        labels = tuple(sorted({*found.labels, *options.labels.values()}))
        own = {"caption": options.caption, **({"frozen": list(_TEXTS)} if options.text_tower == "frozen" else {})}
        return Spec(self.name, labels, {**found.options, **own})

    def own_labels(self, config: Mapping[str, Any]) -> tuple[str, ...] | None:
        return None

    def refuses(self, config: Mapping[str, Any], spec: Spec | None = None) -> str | None:
        if config.get("model_type") != "clip" or "CLIPModel" not in (config.get("architectures") or ["CLIPModel"]):
            found = listed(config.get("architectures") or [config.get("model_type", "a model of unnamed type")])
            return f"{self.name} needs a CLIPModel, which has a tower for images and one for texts, and this is {found}"
        grey = (config.get("vision_config") or {}).get("num_channels") == 1
        return GREY if grey and spec is not None and spec.options["channels"] == 3 else None

    def preview(self, folder: Path, spec: Spec, rows: pd.DataFrame, max_length: int, where: str) -> list[Finding]:
        captions = captions_of(spec)
        try:
            tokens = tokens_of(folder, captions, max_length)
        except UsageError as fault:
            return [error("captions", str(fault), where)]
        found = [note("captions", told(tokens, captions), where)]
        if tokens.unknown:
            text = f"captions with a word that the tokenizer lacks: {listed(map(repr, tokens.unknown), 4)}"
            found.append(warning("unknown-words", text, where, "say it otherwise with `labels:` or `caption:`"))
        if tokens.cut:
            text = f"captions that are too long and are cut: {listed(map(repr, tokens.cut), 4)}"
            found.append(warning("captions-cut", text, where, "shorten `caption:`, or raise tuning.max_length"))
        return found

    def row_flops(self, folder: Path, spec: Spec) -> float:
        """Those of an image, and its share of the captions, which go through once a pass."""
        return _row_flops(folder, tuple(captions_of(spec)), tuple(spec.options["size"]), spec.options["channels"])

    def initialise(
        self, folder: Path, out: Path, spec: Spec, seed: int, dropout: float | None = None, fitted: Any = None
    ) -> None:
        """The model as it is, in float32: there is nothing to draw."""
        self.save(self.load(folder, spec, dropout), out)

    def load(self, folder: Path, spec: Spec, dropout: float | None = None) -> Loaded:
        config = hub.read_config(folder)
        why = self.refuses(read_json(folder / "config.json"))
        if why:
            raise UsageError(f"{folder}: {why}")
        for tower in (config.text_config, config.vision_config):
            hub.set_dropout(tower, dropout, folder)
        with hub.quiet():
            net = load_model(folder, config, complete=True, auto="CLIPModel")
        return Loaded(net.eval(), spec, folder)

    def save(self, model: Loaded, out: Path) -> None:
        save_model(model.net, model.folder, out)
        height, width = model.spec.options["size"]
        write_preprocessing(model.folder, out, (height, width), model.spec.options["channels"])

    def encode(self, model: Loaded, rows: Rows, max_length: int) -> Any:
        """Images as the model's preprocessor says, and the captions of all labels."""
        return CaptionedImages(
            super().encode(model, rows, max_length), tokens_of(model.folder, captions_of(model.spec), max_length)
        )

    def forward(self, model: Loaded, inputs: Mapping[str, Any]) -> Any:
        """(batch, captions). The embeddings' cosines are taken in float32, whatever the precision: times a scale of up
        to 100, bfloat16 would round logits to halves."""
        import torch

        out = model.net(**inputs)
        with torch.autocast(out.image_embeds.device.type, enabled=False):
            cosines = out.image_embeds.float() @ out.text_embeds.float().T
            return cosines * model.net.logit_scale.float().exp()

    def body(self, model: Loaded) -> Any:
        return model.net

    def frozen(self, spec: Spec) -> tuple[str, ...]:
        return tuple(spec.options.get("frozen", ()))

    def several(self) -> Any:
        return SeveralCaptions()


@lru_cache(maxsize=8)
def _row_flops(folder: Path, captions: tuple[str, ...], size: tuple[int, int], channels: int) -> float:
    import torch
    from transformers import CLIPModel

    wanted, config = preprocessing_of(folder, size, channels), hub.read_config(folder)
    tokens = torch.from_numpy(tokens_of(folder, captions, _LONGEST).ids)
    image = torch.zeros(1, wanted.channels, wanted.height, wanted.width, device="meta")
    with hub.quiet(), torch.device("meta"):
        net = CLIPModel(config)
        both, twice = (forward_flops(net, tokens.to("meta"), image.expand(n, -1, -1, -1)) for n in (1, 2))
    return twice - both + (2 * both - twice) / BATCH


TASKS.add(ImageText.name, ImageText())
