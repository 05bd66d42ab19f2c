"""Networks that a study's functions make: checked by making each once, before anything is trained or written.

What a plan needs of a model (names, shapes, bytes) it reads from a folder. So a network is made here into a folder of
this process, which ends with it; the step "init" makes the network again, with the seed of its run.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from tunemerge.checkpoint.model import SINGLE, open_checkpoint, read_json
from tunemerge.errors import TunemergeError, UsageError
from tunemerge.findings import Finding, FindingsError, error
from tunemerge.graph.step import Leaf
from tunemerge.plugins import load_plugin
from tunemerge.store.digest import digest_json
from tunemerge.store.remember import file_digest
from tunemerge.study.config_given import BuiltModel
from tunemerge.tasks.made import initialise, load
from tunemerge.tasks.made_network import NETS, Description, head_of, make
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import CODE, TASKS

_TRIED = 4


@dataclass(frozen=True)
class Sample:
    """What a network is tried on: what it predicts, and training rows of every task. Without rows (those given can't be
    read) it is not tried."""

    spec: Spec
    tables: Sequence[pd.DataFrame] = ()


def built_leaf(
    built: BuiltModel, name: str, key: str, folder: Path, sample: Sample
) -> tuple[Leaf | None, list[Finding]]:
    """The model as a leaf of the graph, whose key is of code, keywords and weights; and what is wrong with it."""
    try:
        described, weights = _described(built, key, folder)
        if not sample.tables:
            return None, []  # it is made for rows, and what is wrong with those is said
        place = _scratch() / digest_json([name, described.build, str(folder)])
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        _try(described, weights, place, sample)
    except FindingsError as problem:
        return None, [replace(f, where=f"{key} ({f.where})" if f.where != key else key) for f in problem.findings]
    except TunemergeError as problem:
        return None, [error("bad-network", str(problem), key)]
    content = [described.build.rpartition(":")[2], dict(described.config), described.code, list(described.labels)]
    digest = digest_json(["made", *content, file_digest(weights) if weights else ""])
    return Leaf(digest, place, "model", name), []


def code_option(leaves: Mapping[str, Leaf]) -> dict[str, Any]:
    """The option of the spec that names the code of all made models among these; none where there is none."""
    codes = set()
    for leaf in leaves.values():
        with suppress(TunemergeError):
            codes.add(Description.read(leaf.path).code)
    return {CODE: sorted(codes - {""})} if codes - {""} else {}


def _described(built: BuiltModel, key: str, folder: Path) -> tuple[Description, Path | None]:
    weights = folder / Path(built.weights).expanduser() if built.weights else None
    if weights is not None:
        open_checkpoint(weights)  # refuses what is no safetensors file
        if not weights.is_file():
            raise UsageError(f"{weights}: a folder; name the safetensors file")
    file, colon, name = built.build.rpartition(":")
    if not colon:
        plugin = NETS.plugin(built.build)
        code, build = plugin.digest if plugin else "", built.build
    else:
        path = (folder / Path(file).expanduser()).resolve()
        code, build = load_plugin(path, f"{key}.build").digest, f"{path.name}:{name}"
    return Description(build, built.config, code, (), tuple(built.labels) if weights else (), weights is None), weights


def _try(described: Description, weights: Path | None, place: Path, sample: Sample) -> None:
    """Make the network in `place`, with a head for the sample, and send a few rows through it."""
    import torch

    spec, kind = sample.spec, TASKS[sample.spec.kind]
    files = [place / f"{i}.parquet" for i in range(len(sample.tables))]
    for file, table in zip(files, sample.tables, strict=True):
        table.to_parquet(file, index=False)
    fitted = None
    if kind.fits:
        fitted = kind.fit([kind.summarise(kind.read([file], spec), spec) for file in files], spec)
    if weights is not None:
        _link(weights, place / SINGLE)
    described.write(place)
    why = kind.refuses(read_json(place / "config.json"), spec)
    if why:
        raise UsageError(why)
    start = place / "start"
    start.mkdir()
    with torch.random.fork_rng():
        initialise(place, start, spec, 0, None, fitted)
        net = make(described, len(spec.labels), fitted)
        replace(described, head=head_of(described, net, len(spec.labels), fitted)).write(place)
    if weights is None:
        (start / SINGLE).replace(place / SINGLE)
        shutil.copyfile(place / SINGLE, start / SINGLE)
    sample.tables[0].head(_TRIED).to_parquet(files[0], index=False)
    rows = kind.read([files[0]], spec)
    model = load(start, spec)
    batch = {n: torch.from_numpy(a) for n, a in kind.encode(model, rows, 64).batch(range(len(rows))).items()}
    try:
        with torch.no_grad():
            outputs = kind.forward(model, batch)
    except Exception as problem:
        shapes = ", ".join(f"{name} {list(values.shape)}" for name, values in batch.items())
        text = f"{described.build} fails on {shapes}: {type(problem).__name__}: {problem}"
        raise UsageError(text) from problem
    if tuple(outputs.shape) != (len(rows), len(spec.labels)):
        expected = [len(rows), len(spec.labels)]
        raise UsageError(f"{described.build} returns the shape {list(outputs.shape)}; expected {expected}")
    for left in (*files, start):
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def _link(source: Path, target: Path) -> None:
    """A second name for the file where the disk can, else a copy."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


@cache
def _scratch() -> Path:
    """A folder that ends with this process."""
    holder = tempfile.TemporaryDirectory(prefix="tunemerge-made-")
    _held.append(holder)
    return Path(holder.name)


_held: list[tempfile.TemporaryDirectory[str]] = []
