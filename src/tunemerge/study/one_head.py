"""A usual model made of one head of a model with several: the rows of its labels, and a config that names them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tunemerge.checkpoint.heads import RECORD, read_heads
from tunemerge.checkpoint.model import open_checkpoint, read_json, write_json
from tunemerge.merge.folder import RECORD as MERGE
from tunemerge.store.digest import digest_file
from tunemerge.tasks.fitted import write_fitted
from tunemerge.tasks.task import is_classes


def keep_head(folder: Path, kind: str, labels: Sequence[str]) -> bool:
    """Rewrite the model in a folder of one's own; whether it was: a model with one head, or an adapter, stays."""
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    heads = read_heads(folder)
    if heads is None or not (folder / "config.json").is_file():
        return False
    head = next(h for h in heads.heads if (h.spec["kind"], list(h.spec["labels"])) == (kind, list(labels)))
    checkpoint = open_checkpoint(folder)
    files = {checkpoint.file_of(name) for name in heads.tensors}
    for file in files:
        with safe_open(file, "numpy") as opened:
            about = opened.metadata()
        tensors = load_file(file)
        own = {name: tensors[name][heads.rows(labels)] for name in heads.tensors if name in tensors}
        save_file({**tensors, **own}, file, metadata=about)
    write_json(
        folder / "config.json",
        {
            **checkpoint.config,
            "id2label": {str(i): label for i, label in enumerate(labels)},
            "label2id": {label: i for i, label in enumerate(labels)},
            "problem_type": "single_label_classification" if is_classes(kind) else "regression",
        },
    )
    write_fitted(folder, head.fitted)
    (folder / RECORD).unlink()
    if (folder / MERGE).is_file():
        record = read_json(folder / MERGE)
        write_json(folder / MERGE, {**record, "files": {**record["files"], **{f.name: digest_file(f) for f in files}}})
    return True
