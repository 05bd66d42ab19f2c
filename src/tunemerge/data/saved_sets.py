"""Folders of Hugging Face data sets: as `save_to_disk` leaves them (Arrow), or as the Hub holds them (Parquet)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tunemerge.errors import UsageError
from tunemerge.registry import listed

PART = "part"
_INDEX, _ONE = "dataset_dict.json", "dataset_info.json"
_SHARD = re.compile(r"(?P<split>.+)-\d{5}-of-\d{5}\.parquet\Z")


def is_saved_set(folder: Path) -> bool:
    """Whether a folder is such a data set, or one split of it."""
    return bool(_files(folder))


def is_arrow_folder(folder: Path) -> bool:
    """Whether `save_to_disk` wrote it."""
    return (folder / _INDEX).is_file() or (folder / _ONE).is_file()


def read_saved_set(folder: Path) -> pd.DataFrame:
    """All rows; of several splits one below the other, with a column `part` that names each row's. Classes have their
    names, images are as they are stored (`bytes` and `path`). Raises UsageError for what can't be read."""
    parts = {}
    for split, files in _files(folder).items():
        if not files:
            raise UsageError(f"{folder}: its split {split!r} has no data: no .arrow file in {folder / split}")
        try:
            tables = [_table(file) for file in files]
            parts[split] = _named(pa.concat_tables(tables))
        except (pa.ArrowException, OSError, ValueError) as fault:
            raise UsageError(f"{folder}: {files[0].name} can't be read: {fault}") from fault
    if len(parts) == 1:
        return next(iter(parts.values()))
    (first, expected), *others = parts.items()
    for split, table in others:
        if list(table.columns) != list(expected.columns):
            raise UsageError(
                f"{folder}: the split {split} has the columns {listed(table.columns)}, {first} has "
                f"{listed(expected.columns)}: name the folders of the splits one by one, under `files`"
            )
    if PART in expected:
        raise UsageError(f"{folder}: a column is called {PART!r}, so splits can't be told: name them under `files`")
    return pd.concat([table.assign(**{PART: split}) for split, table in parts.items()], ignore_index=True)


def _files(folder: Path) -> Mapping[str, list[Path]]:
    """The files of each split, in their order; nothing where it is no such folder."""
    if (folder / _INDEX).is_file():
        known = json.loads((folder / _INDEX).read_text("utf-8")).get("splits", [])
        return {split: sorted((folder / split).glob("*.arrow")) for split in known if Path(split).name == split}
    if (folder / _ONE).is_file():
        arrow = sorted(folder.glob("*.arrow"))
        return {"": arrow} if arrow else {}
    found: dict[str, list[Path]] = {}
    for file in sorted([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")]):
        if shard := _SHARD.match(file.name):
            found.setdefault(shard["split"], []).append(file)
    return found


def _table(file: Path) -> pa.Table:
    if file.suffix == ".parquet":
        return pq.read_table(file)
    with pa.memory_map(str(file)) as mapped, pa.ipc.open_stream(mapped) as stream:
        return stream.read_all()


def _named(table: pa.Table) -> pd.DataFrame:
    """With the names of classes instead of their numbers, which stand in the schema; -1 is no class."""
    said = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    features = said.get("info", {}).get("features", {})
    frame: pd.DataFrame = table.to_pandas()
    for column, feature in features.items():
        names = feature.get("names") if isinstance(feature, dict) else None
        if names and column in frame and pd.api.types.is_integer_dtype(frame[column]):
            frame[column] = frame[column].map(dict(enumerate(map(str, names))))
    return frame
