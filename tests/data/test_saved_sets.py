"""Folders of Hugging Face data sets, written as its library writes them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tunemerge.data.load import read_table
from tunemerge.data.saved_sets import is_saved_set, read_saved_set
from tunemerge.errors import UsageError
from tunemerge.propose.pictures import pictures_of
from tunemerge.propose.tables import find_sources
from tunemerge.tasks.images import from_png
from tunemerge.tasks.task import TASKS

FEATURES = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}


def rows(values: range, **more: list[str]) -> pa.Table:
    """Grey images of one value, every second a dog."""
    cells = []
    for value in values:
        buffer = io.BytesIO()
        Image.fromarray(np.full((8, 8), value, np.uint8)).save(buffer, "PNG")
        cells.append({"bytes": buffer.getvalue(), "path": None})
    stored = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(cells, stored), "label": [v % 2 for v in values], **more})
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": FEATURES}})})


def save(folder: Path, *shards: pa.Table) -> None:
    """As `save_to_disk` does for one split."""
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text(json.dumps({"features": FEATURES}))
    for number, shard in enumerate(shards):
        with pa.ipc.new_stream(folder / f"data-{number:05d}-of-{len(shards):05d}.arrow", shard.schema) as stream:
            stream.write_table(shard)


def save_splits(folder: Path, **splits: list[pa.Table]) -> Path:
    for name, shards in splits.items():
        save(folder / name, *shards)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))
    return folder


def test_splits_become_a_column_and_classes_have_names(tmp_path: Path) -> None:
    saved = save_splits(tmp_path / "set", train=[rows(range(3)), rows(range(3, 5))], test=[rows(range(5, 7))])
    table = read_table(saved)
    assert list(table["part"]) == ["train"] * 5 + ["test"] * 2
    assert list(table["label"]) == ["cat", "dog", "cat", "dog", "cat", "dog", "cat"]
    kind = TASKS["image-classification"]
    converted, found = kind.convert(table, kind.Options(), "t")
    assert found == [] and [int(from_png(data)[0, 0, 0]) for data in converted["image"]] == list(range(7))


def test_one_split_alone_and_parquet_of_the_hub(tmp_path: Path) -> None:
    save(tmp_path / "one", rows(range(4)))
    (tmp_path / "hub" / "data").mkdir(parents=True)
    for number, values in enumerate((range(2), range(2, 4))):
        pq.write_table(rows(values), tmp_path / "hub" / "data" / f"train-{number:05d}-of-00002.parquet")
    for name in ("one", "hub"):
        table = read_table(tmp_path / name)
        assert list(table.columns) == ["image", "label"] and list(table["label"]) == ["cat", "dog", "cat", "dog"]


def test_what_can_not_be_told_apart_is_an_error(tmp_path: Path) -> None:
    one = rows(range(2), part=["a", "b"])
    with pytest.raises(UsageError, match="a column is called 'part'"):
        read_saved_set(save_splits(tmp_path / "a", train=[one], test=[one]))
    with pytest.raises(UsageError, match="the split test has the columns image, label, train has image, label, part"):
        read_saved_set(save_splits(tmp_path / "b", train=[one], test=[rows(range(2))]))
    with pytest.raises(UsageError, match="its split 'test' has no data"):
        read_saved_set(save_splits(tmp_path / "c", train=[one], test=[]))
    broken = save_splits(tmp_path / "d", train=[one])
    (broken / "train" / "data-00000-of-00001.arrow").write_bytes(b"no arrow")
    with pytest.raises(UsageError, match=r"data-00000-of-00001\.arrow can't be read"):
        read_saved_set(broken)


def test_a_proposal_takes_it_for_images(tmp_path: Path) -> None:
    save_splits(tmp_path / "pets", train=[rows(range(4))], test=[rows(range(4, 6))])
    (source,) = find_sources([tmp_path / "pets"])
    found = pictures_of(source, None)
    assert found is not None and (found.image, found.label, found.raw) == ("image", "label", ("cat", "dog"))


def test_names_that_lead_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    save(tmp_path / "other", rows(range(2)))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "dataset_dict.json").write_text(json.dumps({"splits": ["../other"]}))
    assert not is_saved_set(tmp_path / "set")
