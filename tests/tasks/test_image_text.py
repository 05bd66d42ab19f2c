"""Images scored over captions: as transformers' CLIPModel does, whatever labels a task has."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from transformers import CLIPModel

import pictures
from tunemerge.errors import UsageError
from tunemerge.tasks.captions import captions_of, tokens_of
from tunemerge.tasks.forward import predictions
from tunemerge.tasks.images import as_png
from tunemerge.tasks.kinds.image_text import ImageTextOptions
from tunemerge.tasks.meter import metered
from tunemerge.tasks.rows import Rows
from tunemerge.tasks.several import several
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS, kind_of
from tunemerge.tune.config import TuneConfig
from tunemerge.tune.model import tune_model

KIND = TASKS["image-text"]
OPTIONS = {"size": [8, 8], "channels": 1, "caption": "a photo of {label}"}
BARS = Spec("image-text", ("lying", "standing"), OPTIONS)
BLOCKS = Spec("image-text", ("flat", "lying", "upright"), {**OPTIONS, "caption": "a {label} photo"})


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    pictures.tiny_clip(folder / "base", "a photo of lying standing flat upright")
    KIND.initialise(folder / "base", folder / "start", BARS, 0)
    return folder / "start"


def rows(n: int, seed: int = 0) -> Rows:
    pixels, labels = pictures.images(n, seed)
    return Rows(pixels[..., None], labels.astype(np.int32), [str(i) for i in range(n)], np.ones(n))


def test_logits_are_those_of_the_plain_model(clip: Path) -> None:
    encoded = KIND.encode(model := KIND.load(clip, BARS), rows(5), 16)
    inputs = {name: torch.from_numpy(array) for name, array in encoded.batch(range(5)).items()}
    plain = CLIPModel.from_pretrained(clip).eval()
    with torch.no_grad():
        expected = plain(**inputs).logits_per_image.numpy()
    np.testing.assert_allclose(predictions(model, encoded, "float32"), expected, atol=1e-5)


def test_images_are_counted_and_captions_are_not(clip: Path) -> None:
    model = KIND.load(clip, BLOCKS)
    with metered(model.net) as meter:
        predictions(model, KIND.encode(model, rows(40), 16), "float32")
    assert (meter.forward_examples, meter.tokens) == (40, 0) and meter.forward_shapes == {(32, 1): 1, (8, 1): 1}


def test_a_plan_knows_the_operations_of_a_pass(clip: Path) -> None:
    from tunemerge.tasks.flops import count

    model = KIND.load(clip, BLOCKS)
    whole = count(model, KIND.encode(model, rows(32), 16), 32, 1, False)
    assert KIND.row_flops(clip, BLOCKS) * 32 == pytest.approx(whole, rel=0.01)


def test_rows_of_several_label_sets_are_judged_as_alone(clip: Path, tmp_path: Path) -> None:
    """In one pass over the captions of both tasks, of which one is in both sets of labels but not the same caption."""
    both, parts = several([BARS, BLOCKS], [0, 1]), []
    for number, spec in enumerate((BARS, BLOCKS)):
        pixels, labels = pictures.images(7, number)
        table = pd.DataFrame(
            {
                "image": [as_png(p[..., None]) for p in pixels],
                "label": [spec.labels[label] for label in labels],
                "unit": [str(i) for i in range(7)],
                "weight": 1.0,
            }
        )
        parts.append(tmp_path / f"{number}.parquet")
        table.to_parquet(parts[-1], index=False)
    kind: Any = kind_of(both)
    (tmp_path / "start").mkdir()
    kind.initialise(clip, tmp_path / "start", both, 0, None, [None, None])
    model, mixed = kind.load(tmp_path / "start", both), kind.read(parts, both)
    encoded = kind.encode(model, mixed, 16)
    order = np.array([9, 0, 13, 3])
    inputs = {name: torch.from_numpy(array) for name, array in encoded.batch(order).items()}
    with torch.no_grad():
        outputs = kind.forward(model, inputs)
        found = kind.loss(model, outputs, inputs, torch.from_numpy(mixed.target[order]), 0.1)
    assert outputs.shape == (4, 5)
    for place, row in enumerate(order):
        spec, file, own = (BARS, parts[0], row) if row < 7 else (BLOCKS, parts[1], row - 7)
        alone, read = KIND.load(clip, spec), KIND.read([file], spec)
        one = KIND.encode(alone, read, 16)
        batch = {name: torch.from_numpy(array) for name, array in one.batch([own]).items()}
        with torch.no_grad():
            logits = KIND.forward(alone, batch)
            expected = KIND.loss(alone, logits, batch, torch.from_numpy(read.target[[own]]).long(), 0.1)
        assert float(found[place]) == pytest.approx(float(expected[0]), abs=1e-4)
    said = predictions(model, encoded, "float32")
    each = [kind_score(model.folder, s, f) for s, f in ((BARS, parts[0]), (BLOCKS, parts[1]))]
    assert kind.score(model, said, mixed) == pytest.approx(np.mean(each))


def kind_score(folder: Path, spec: Spec, file: Path) -> float:
    model, read = KIND.load(folder, spec), KIND.read([file], spec)
    return KIND.score(model, predictions(model, KIND.encode(model, read, 16), "float32"), read)


@pytest.mark.parametrize("method", ["full", "lora", "attention"])
def test_a_frozen_text_tower_stays_bit_for_bit(clip: Path, tmp_path: Path, method: str) -> None:
    options = ImageTextOptions(labels={"0": "lying", "1": "standing"}, text_tower="frozen", caption="a {label}")
    table, _ = KIND.convert(pictures.table(24), options, "t")
    table.assign(unit=[str(i) for i in range(24)], weight=1.0).to_parquet(tmp_path / "rows.parquet")
    config = TuneConfig.model_validate({"method": method, "batch_size": 8, "learning_rate": 1e-2})
    tune_model(
        clip, tmp_path / "out", [tmp_path / "rows.parquet"], task=KIND.spec(options, [table]), seed=0, examples=24,
        config=config,
    )  # fmt: skip
    before, after = (CLIPModel.from_pretrained(folder).state_dict() for folder in (clip, tmp_path / "out"))
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed - {"logit_scale", "visual_projection"} == {"vision_model"}


def test_a_tower_that_reads_captions_elsewhere_is_refused(clip: Path, tmp_path: Path) -> None:
    """Where config.json says another end, every caption would be read at its first token: all would be the same."""
    wrong = tmp_path / "wrong"
    shutil.copytree(clip, wrong)
    config = json.loads((wrong / "config.json").read_text())
    config["text_config"]["eos_token_id"] = 99
    (wrong / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="read at its token 1 of 6, not at its end"):
        tokens_of(wrong, captions_of(BARS), 16)
    (found,) = KIND.preview(wrong, BARS, pictures.table(1), 16, "tasks.a")
    assert found.severity == "error" and "eos_token_id 99" in found.message


def test_captions_that_are_alike_to_the_model_are_refused(clip: Path) -> None:
    strange = Spec("image-text", ("cat", "dog"), OPTIONS)
    (found,) = KIND.preview(clip, strange, pictures.table(1), 16, "tasks.a")
    assert found.code == "captions" and "'a photo of cat' and 'a photo of dog' are the same tokens" in found.message


def test_words_that_are_lacking_and_captions_that_are_cut_are_told(clip: Path) -> None:
    one = Spec("image-text", ("cat", "flat"), OPTIONS)
    assert [f.code for f in KIND.preview(clip, one, pictures.table(1), 16, "t")] == ["captions", "unknown-words"]
    long = Spec("image-text", ("flat", "upright"), {**OPTIONS, "caption": "{label} " + "a photo of " * 6})
    assert [f.code for f in KIND.preview(clip, long, pictures.table(1), 16, "t")] == ["captions", "captions-cut"]


def test_a_caption_has_its_label_in_it() -> None:
    with pytest.raises(ValidationError, match=r"has no \{label\}"):
        ImageTextOptions(caption="a photo")


def test_other_models_are_refused() -> None:
    assert "this is ViTModel" in str(KIND.refuses({"model_type": "vit", "architectures": ["ViTModel"]}))
    assert "this is clip_vision_model" in str(KIND.refuses({"model_type": "clip_vision_model"}))
    grey = {"model_type": "clip", "vision_config": {"num_channels": 1}}
    assert "reads grey images" in str(KIND.refuses(grey, Spec("image-text", ("a",), {**OPTIONS, "channels": 3})))


def test_labels_that_are_named_are_scored_though_no_row_has_them() -> None:
    options = ImageTextOptions(labels={"0": "lying", "1": "standing", "2": "flat"})
    table, found = KIND.convert(pictures.table(20), options, "t")
    assert found == [] and KIND.spec(options, [table]).labels == ("flat", "lying", "standing")
