"""Images as tables: folders, NPZ files; what can't be used says where."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import pictures
from tunemerge.data.load import read_table
from tunemerge.errors import UsageError
from tunemerge.tasks.images import from_png, open_image, preprocessing_of
from tunemerge.tasks.task import TASKS

KIND = TASKS["image-classification"]


def converted(table: pd.DataFrame, **options: object) -> tuple[pd.DataFrame, list[str]]:
    rows, found = KIND.convert(table, KIND.Options(**options), "tasks.a")
    return rows, [f"{f.code}: {f.message}" for f in found]


def test_a_folder_and_a_table_of_paths_give_the_same_pixels(tmp_path: Path) -> None:
    pixels, labels = pictures.images(6)
    for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        (tmp_path / "set" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "set" / str(label) / f"{number}.png")
    folder = read_table(tmp_path / "set")
    folder.to_csv(tmp_path / "set" / "list.csv", index=False)
    listed = read_table(tmp_path / "set" / "list.csv")
    one, two = converted(folder)[0], converted(listed)[0]
    assert (one["image"] == two["image"]).all() and list(one["label"]) == list(two["label"].astype(str))
    stored = folder.assign(image=[{"bytes": (tmp_path / "set" / p).read_bytes(), "path": p} for p in folder["image"]])
    assert (converted(stored)[0]["image"] == one["image"]).all()
    changed = converted(folder, size=4, channels=3)[0]["image"]
    assert {from_png(data).shape for data in changed} == {(4, 4, 3)}


def test_an_image_that_does_not_open_is_named_with_its_row(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    table = pd.DataFrame({"image": ["a.png", "b.png"], "label": ["x", "y"]})
    table.to_csv(tmp_path / "t.csv", index=False)
    _, found = converted(read_table(tmp_path / "t.csv"))
    assert len(found) == 1 and found[0].startswith("bad-image: 2 images can't be opened: data row 1 (a.png: not an")
    assert "data row 2 (no such file" in found[0] and "b.png" in found[0]


def test_grey_and_coloured_images_are_not_mixed_unasked() -> None:
    table = pd.concat([pictures.table(3), pictures.table(3, channels=3)], ignore_index=True)
    assert [f.split(":")[0] for f in converted(table)[1]] == ["image-channels"]
    assert converted(table, channels=1)[1] == converted(table, channels=3)[1] == []


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.zeros(3), "y": np.zeros(3)}, "no array of images"),
        ({"image": np.zeros((3, 8, 8), np.uint8), "label": np.zeros(4)}, "different numbers of rows: image .3, 8, 8."),
        ({"image": np.zeros((3, 8, 8), np.uint8), "label": np.array([{}, {}, {}])}, "holds objects"),
    ],
)
def test_an_npz_that_is_no_set_of_images(tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UsageError, match=said):
        read_table(tmp_path / "a.npz")


def test_parts_of_a_set_are_one_table(tmp_path: Path) -> None:
    pixels, labels = pictures.images(5)
    np.savez(tmp_path / "a.npz", x_train=pixels[:3], y_train=labels[:3], x_test=pixels[3:], y_test=labels[3:])
    table = read_table(tmp_path / "a.npz")
    assert list(table["part"]) == ["train"] * 3 + ["test"] * 2 and list(table["label"]) == list(labels)


def test_values_between_0_and_1_are_images_too_and_others_are_none() -> None:
    assert open_image(np.full((2, 2), 0.5), "").tolist() == [[[128], [128]], [[128], [128]]]
    for wrong in (np.full((2, 2), -1.0), np.full((2, 2), np.nan), np.zeros((2, 2, 4), np.uint8)):
        with pytest.raises(ValueError, match=r"0 to 255|shape"):
            open_image(wrong, "")


def test_preprocessing_is_that_of_transformers(tmp_path: Path) -> None:
    from transformers import ViTImageProcessorPil as Processor

    processor = Processor(size={"height": 6, "width": 5}, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.4])
    processor.save_pretrained(tmp_path)
    pixels, _ = pictures.images(2, channels=3)
    wanted = preprocessing_of(tmp_path, (8, 8), 3)
    ours = wanted.values(wanted.pixels(list(pixels)))
    theirs = processor([Image.fromarray(p) for p in pixels], return_tensors="np")["pixel_values"]
    assert np.allclose(ours, theirs, atol=1e-5)
