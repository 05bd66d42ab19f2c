"""From files and folders to tables: which file is a task, which one of its splits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tunemerge.data.images import is_image_folder
from tunemerge.data.load import READERS, read_table
from tunemerge.data.saved_sets import is_arrow_folder
from tunemerge.errors import UsageError
from tunemerge.findings import Finding, error, refuse_errors

_WORDS = {"train": "train", "training": "train", "source": "source", "adapt": "adapt", "validation": "validation"}
_WORDS |= {"valid": "validation", "val": "validation", "dev": "validation", "test": "test", "testing": "test"}
_SHARD = re.compile(r"-\d+-of-\d+$")
_DEEP = 3


@dataclass(frozen=True)
class Source:
    """The files of one task: by split ("train", "source", "adapt", "validation", "test"), or one as "data". `table` is
    the one to look at: all of it, or the training rows."""

    name: str
    files: dict[str, Path]
    table: pd.DataFrame
    given: bool
    unused: tuple[str, ...] = ()


def find_sources(data: Sequence[Path]) -> list[Source]:
    """The tasks in `data`; splits that are complete are taken as they are (`given`). Raises FindingsError with all that
    can't be read."""
    found: list[Finding] = []
    grouped: dict[str, dict[str, Path]] = {}
    for place in data:
        inside = _but_notes(list(_files(place)))
        if not place.exists():
            found.append(error("no-such-data", "no such file or folder", str(place)))
        elif not inside:
            text = f"no table in it: files that end in {', '.join(READERS)} (also .gz)"
            found.append(error("no-data", text, str(place)))
        for file in inside:
            task, split = _name(file, place)
            if split in grouped.setdefault(task, {}):
                text = f"the {split} rows of {task} are in two files, {grouped[task][split].name} too"
                found.append(error("two-files", text, str(file), "join them, or name the files one by one"))
            grouped[task][split] = file
    sources = []
    for task, files in grouped.items():
        chosen, given, unused = _chosen(files)
        try:
            table = read_table(chosen.get("data") or chosen.get("train") or next(iter(chosen.values())))
            sources.append(Source(task, chosen, table, given, unused))
        except UsageError as e:
            found.append(error("bad-data", str(e), task))
    refuse_errors(found)
    return sources


def _files(place: Path) -> Iterator[Path]:
    if place.is_file() or is_image_folder(place) or is_arrow_folder(place):
        yield place
    elif place.is_dir():
        for file in sorted(place.rglob("*")):
            inside = file.relative_to(place).parts
            hidden = any(part.startswith(".") or part == "runs" for part in inside)
            if file.is_file() and not hidden and len(inside) <= _DEEP and any(s in READERS for s in file.suffixes):
                yield file


def _but_notes(files: list[Path]) -> list[Path]:
    """Text files beside tables describe them."""
    tables = [file for file in files if ".txt" not in file.suffixes]
    return tables or files


def _name(file: Path, place: Path) -> tuple[str, str]:
    """Task and split ("data" where no word says one) of a file that was found in `place`."""
    stem = _SHARD.sub("", file.name.split(".")[0])
    folders = file.relative_to(place).parent.parts if place.is_dir() else ()
    split, kept = "data", []
    for part in (*folders, stem):
        pieces = re.split(r"[-_ ]", part)
        at = next((i for i in (0, len(pieces) - 1) if pieces[i].lower() in _WORDS), None)
        if at is not None and split == "data":
            split = _WORDS[pieces.pop(at).lower()]
        if rest := "-".join(p for p in pieces if p):
            kept.append(rest if at is not None else part)
    home = (place if place.is_dir() else file.parent).resolve().name
    return task_name("-".join(kept) or home), split


def task_name(text: object) -> str:
    """A name that a study takes."""
    return re.sub(r"^[^A-Za-z0-9]+|[^A-Za-z0-9]+$", "", re.sub(r"[^A-Za-z0-9_.-]+", "-", str(text)))[:60] or "task"


def _chosen(files: dict[str, Path]) -> tuple[dict[str, Path], bool, tuple[str, ...]]:
    """The files that are used, whether they are splits, and the names of the others: given splits are taken where
    there are rows to train, to validate and to test on; else one file is split."""
    trained = {"train", "adapt", "source"} & files.keys()
    if trained and {"validation", "test"} <= files.keys():
        return {k: v for k, v in files.items() if k != "data"}, True, ()
    one = next(k for k in ("data", "train", "adapt", "source", *files) if k in files)
    return {"data": files[one]}, False, tuple(f.name for k, f in files.items() if k != one)
