"""A checkpoint on disk, opened as data: config.json and the headers of its safetensors files. No model class.

What comes from elsewhere is not trusted: shard names must be plain file names, and no link may leave the
model's folder, except the links of the Hugging Face cache, which point into the blobs folder beside it.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NoReturn

from tunemerge.checkpoint.entries import short
from tunemerge.checkpoint.header import TensorInfo, read_header, unreadable
from tunemerge.errors import CheckpointError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
MAX_JSON = 100_000_000
_PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True)
class Checkpoint:
    """`folder` holds it; `files` are the weight files by name, `tensors` maps a tensor to (info, file name).

    `config` is config.json, or empty where there is none (`has_config` tells).
    """

    folder: Path
    config: dict[str, Any]
    has_config: bool
    files: tuple[str, ...]
    located: dict[str, tuple[TensorInfo, str]]

    @cached_property
    def tensors(self) -> dict[str, TensorInfo]:
        """By name, in name order."""
        return {name: info for name, (info, _) in sorted(self.located.items())}

    def file_of(self, name: str) -> Path:
        """The file that holds this tensor."""
        return self.folder / self.located[name][1]

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(info.end - info.start for info in self.tensors.values())


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a model folder, or one safetensors file. Raises CheckpointError, naming the file and what to do.

    TunemergeError where the disk fails.
    """
    path = Path(path)
    try:
        return _open(path)
    except OSError as problem:  # a name that is too long, a folder that may not be searched, a disk that fails
        raise unreadable(problem.filename or path, problem) from problem


def _open(path: Path) -> Checkpoint:
    if path.is_file():
        if path.suffix != ".safetensors":
            _refuse(path, "not a .safetensors file; pickled weights are not read: save them again with save_pretrained")
        header = read_header(path)
        located = {name: (info, path.name) for name, info in header.tensors.items()}
        return Checkpoint(path.parent, {}, False, (path.name,), located)
    if not path.is_dir():
        _refuse(path, "no such model folder")
    files = _weight_files(path)
    located = {}
    for file, listed in files.items():
        header = read_header(inside(path, file))
        if listed is not None and header.tensors.keys() != listed:
            odd = sorted(header.tensors.keys() ^ listed)
            _refuse(path / file, f"the index and this file disagree about {len(odd)} tensors, first {short(odd[0])}")
        twice = next((name for name in header.tensors if name in located), None)
        if twice is not None:
            text = f"tensor {short(twice)} is also in {located[twice][1]}, and no index says which counts"
            _refuse(path / file, f"{text}; name one of the files itself")
        located.update({name: (info, file) for name, info in header.tensors.items()})
    if not located:
        _refuse(path, "holds no tensors")
    has_config = _is_there(path / "config.json")
    config = read_json(inside(path, "config.json")) if has_config else {}
    return Checkpoint(path, config, has_config, tuple(files), located)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; CheckpointError where it is anything else."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            _refuse(path, "not a plain file")
        if found.st_size > MAX_JSON:
            _refuse(path, f"larger than {MAX_JSON:,} bytes")
        value = json.loads(path.read_text("utf-8"))
    except OSError as problem:
        raise unreadable(path, problem) from problem
    except (ValueError, RecursionError) as problem:
        _refuse(path, f"not JSON: {problem}")
    if not isinstance(value, dict):
        _refuse(path, "not a JSON object")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Readable JSON with a final newline."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _weight_files(folder: Path) -> dict[str, set[str] | None]:
    """File name to the tensors that the index says it holds (None: no index).

    A model of transformers has its usual names; elsewhere one index, or all safetensors files together, are the model.
    """
    if _is_there(folder / SINGLE):
        return {SINGLE: None}
    indexes = [INDEX] if _is_there(folder / INDEX) else sorted(p.name for p in folder.glob("*.safetensors.index.json"))
    if not indexes:
        files = sorted(p.name for p in folder.glob("*.safetensors") if not p.name.startswith("adapter_model"))
        if not files:
            _refuse(folder, _what_is_there(folder))
        return dict.fromkeys(files)
    if len(indexes) > 1:
        _refuse(folder, f"{len(indexes)} indexes: {', '.join(indexes[:3])}; put each model into a folder of its own")
    return _indexed(folder, indexes[0])


def _indexed(folder: Path, name: str) -> dict[str, set[str] | None]:
    index = folder / name
    weight_map = read_json(inside(folder, name)).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        _refuse(index, "has no weight_map")
    files: dict[str, set[str] | None] = {}
    for tensor, file in weight_map.items():
        if not _is_plain_name(file):
            where = f"tensor {short(tensor)} is said to be in {short(file)}"
            _refuse(index, f"{where}; only plain .safetensors file names are read")
        names = files.setdefault(file, set())
        assert names is not None
        names.add(tensor)
    missing = sorted(file for file in files if not (folder / file).exists())
    if missing:
        text = f"{len(missing)} of {len(files)} files are missing, first {short(missing[0])}"
        _refuse(index, f"{text}; copy the model again")
    return dict(sorted(files.items()))


def _what_is_there(folder: Path) -> str:
    if any(next(folder.glob(pattern), None) for pattern in _PICKLES):
        return "only pickled weights, which are not read; save the model again with save_pretrained"
    if (folder / "adapter_model.safetensors").exists() or (folder / "adapter_config.json").exists():
        return "an adapter, not a whole model; a recipe names it after its base: BASE+ADAPTER"
    return f"neither {SINGLE} nor any other safetensors file in it"


def _is_there(path: Path) -> bool:
    """Also a link that leads nowhere: its error is better than going on without it. OSError where nobody can tell."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _is_plain_name(name: Any) -> bool:
    return (
        isinstance(name, str)
        and name.endswith(".safetensors")
        and "\0" not in name
        and len(name) <= 255
        and PurePosixPath(name).name == name
        and PureWindowsPath(name).name == name
    )


def inside(folder: Path, name: str) -> Path:
    """`folder/name`, refused where it is a link that leaves the model (the Hub cache's blobs excepted)."""
    path = folder / name
    try:
        target, home = path.resolve(), folder.resolve()
    except (OSError, RuntimeError):
        _refuse(path, "a link that leads in a circle")
    blobs = home.parent.parent / "blobs"
    if target.parent == home or (home.parent.name == "snapshots" and target.parent == blobs):
        return path
    _refuse(path, f"a link that leaves the model's folder (to {target}); put the file itself there")


def _refuse(path: Path, message: str) -> NoReturn:
    raise CheckpointError(f"{path}: {message}")
