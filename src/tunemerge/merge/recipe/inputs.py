"""The models of a recipe on this disk: found, opened as data, digested."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tunemerge.checkpoint.adapter import CONFIG as ADAPTER_CONFIG
from tunemerge.checkpoint.adapter import Adapter, open_adapter
from tunemerge.checkpoint.locate import locate
from tunemerge.checkpoint.model import Checkpoint, inside, open_checkpoint
from tunemerge.checkpoint.source import Model, open_model
from tunemerge.errors import CheckpointError
from tunemerge.findings import Finding, error
from tunemerge.merge.folder import copied_files
from tunemerge.merge.lora.adapted import AdaptedModel
from tunemerge.merge.recipe.parts import ModelRef, Place
from tunemerge.store.remember import file_digests


@dataclass(frozen=True)
class Found:
    """A place that has been opened: where it is, and what is there."""

    place: Place
    path: Path
    content: Checkpoint | Adapter | None

    def files(self) -> dict[str, Path]:
        """Everything that may go into a merge: weights, config, tokenizer; an adapter's two files; or the one file."""
        one = self.content
        if one is None:
            return {self.path.name: self.path}
        if isinstance(one, Adapter):
            return {path.name: path for path in (one.folder / ADAPTER_CONFIG, one.file)}
        companions = copied_files(one.folder) if one.has_config else []
        return {name: inside(one.folder, name) for name in (*one.files, *companions)}


@dataclass(frozen=True)
class Opened:
    """A model opened as data, without its files being kept open."""

    path: Path
    checkpoint: Checkpoint
    adapter: Adapter | None

    @property
    def label(self) -> str:
        """What errors call it: where it is."""
        return f"{self.path}+{self.adapter.folder}" if self.adapter else str(self.path)

    @contextmanager
    def model(self) -> Iterator[Model]:
        """The model with its files open, seen through its adapter."""
        with open_model(self.checkpoint) as whole:
            yield AdaptedModel(whole, self.adapter, self.checkpoint.config) if self.adapter else whole


def find_places(
    places: Iterable[Place], folder: Path, *, download: bool, known: Callable[[Place], Path | None] = lambda place: None
) -> tuple[dict[Place, Path], list[Finding]]:
    """Where everything is, looked for from the current folder, then from `folder`, then in the Hub's cache or, with
    `download`, on the Hub; and a finding for each that is nowhere. `known` is asked first."""
    found, findings = {}, []
    for place in places:
        try:
            found[place] = known(place) or _locate(place, folder, download)
        except CheckpointError as problem:
            findings.append(error("no-such-model", str(problem)))
    return found, findings


def _locate(place: Place, folder: Path, download: bool) -> Path:
    beside = folder / place.name
    if not Path(place.name).expanduser().exists() and beside.exists():
        return beside
    return locate(place.name, revision=place.revision, download=download)


_OPEN: Mapping[str, Callable[[Path], Checkpoint | Adapter | None]] = {
    "model": open_checkpoint,
    "adapter": open_adapter,
    "groups": lambda path: None,
}


def open_places(found: Mapping[Place, Path]) -> tuple[dict[Place, Found], list[Finding]]:
    """Everything that can be opened, and a finding for each that can't."""
    opened, findings = {}, []
    for place, path in found.items():
        try:
            opened[place] = Found(place, path, _OPEN[place.kind](path))
        except CheckpointError as problem:
            findings.append(error("checkpoint-unreadable", str(problem)))
    return opened, findings


def join(refs: Iterable[ModelRef], inputs: Mapping[Place, Found]) -> dict[ModelRef, Opened]:
    """Each model with its adapter; `inputs` has all of their places."""
    out = {}
    for ref in refs:
        whole, *adapters = (inputs[place] for place in ref.places)
        adapter = adapters[0].content if adapters else None
        assert isinstance(whole.content, Checkpoint) and (adapter is None or isinstance(adapter, Adapter))
        out[ref] = Opened(whole.path, whole.content, adapter)
    return out


@contextmanager
def reading(opened: Mapping[ModelRef, Opened]) -> Iterator[dict[ModelRef, Model]]:
    """All models with their files open. FindingsError where an adapter does not fit its model."""
    with ExitStack() as stack:
        yield {ref: stack.enter_context(one.model()) for ref, one in opened.items()}


def input_digests(inputs: Mapping[Place, Found], threads: int) -> dict[Place, dict[str, str]]:
    """SHA-256 by file name of everything that may go into a merge. Digests of large files are remembered."""
    files = {place: one.files() for place, one in inputs.items()}
    digests = file_digests((path for named in files.values() for path in named.values()), threads)
    return {place: {name: digests[path] for name, path in named.items()} for place, named in files.items()}
