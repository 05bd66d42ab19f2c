"""Writes what has been prepared into a folder: weights, config, tokenizer, provenance, model card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunemerge.checkpoint.model import inside, read_json, write_json
from tunemerge.errors import TunemergeError
from tunemerge.findings import Finding, warning
from tunemerge.merge.folder import (
    CONFIG,
    GENERATION,
    copy_others,
    copy_tokenizer,
    with_dtype,
    without_code,
    write_record,
)
from tunemerge.merge.heads import pass_on_heads
from tunemerge.merge.recipe.config import follow_layers
from tunemerge.merge.recipe.options import Options
from tunemerge.merge.recipe.prepare import Prepared
from tunemerge.merge.recipe.provenance import KEY, methods_of
from tunemerge.merge.runner import Progress, silent, write_tensors
from tunemerge.merge.vocabulary.config import with_changes


def write_model(
    ready: Prepared, folder: Path, options: Options, facts: Mapping[str, Any], progress: Progress = silent
) -> dict[str, Any]:
    """Fill an empty folder; returns the record that was left in it. TunemergeError where writing fails."""
    known = {**facts, "methods": methods_of(ready.plan)}
    try:
        files = write_tensors(
            ready.plan,
            ready.models,
            folder,
            metadata={KEY: json.dumps(known, sort_keys=True)},
            threads=options.threads,
            device=options.device,
            progress=progress,
            shard_bytes=options.shard_bytes,
        )
        _write_config(ready, folder)
        if options.copy_tokenizer:
            _write_tokenizer(ready, folder)
        record = {**known, "files": files}
        write_record(folder, record)
    except OSError as problem:
        raise TunemergeError(f"{folder}: writing the merged model failed: {problem.strerror}") from problem
    return record


def output_config(ready: Prepared) -> tuple[dict[str, Any], list[Finding]]:
    """config.json of the output, with what can't be known about it; empty where the giver has none."""
    giver = ready.opened[ready.giver].checkpoint
    config, findings = without_code(giver.config), []
    for prefix, origins in ready.assembly.layers.items():
        theirs = [(ready.opened[ref].checkpoint.config, layer) for ref, layer in origins]
        config, changed = follow_layers(config, prefix, ready.assembly.stacks[prefix], theirs)
        if not changed and giver.has_config:
            text = f"nothing in config.json says how many layers {prefix} has; the output has {len(origins)}"
            findings.append(warning("config-layers", text, str(giver.folder), "set it by hand"))
    if ready.assembly.untied:
        for part in (config, config.get("text_config")):
            if isinstance(part, dict) and part.get("tie_word_embeddings"):
                part["tie_word_embeddings"] = False
    if ready.vocabulary is not None:
        config = with_changes(config, ready.vocabulary.config_changes(str(ready.giver)).get(CONFIG, {}))
    return with_dtype(config, ready.document.out_dtype), findings


def _write_config(ready: Prepared, folder: Path) -> None:
    giver = ready.opened[ready.giver].checkpoint
    if not giver.has_config:
        return
    copy_others(giver, folder)
    merged = dict.fromkeys(i.model for t in ready.plan.tensors for i in t.inputs if i.model < len(ready.refs))
    pass_on_heads([ready.opened[ready.refs[i]].checkpoint.folder for i in merged], folder)
    write_json(folder / CONFIG, output_config(ready)[0])
    changes = ready.vocabulary.config_changes(str(ready.giver)).get(GENERATION) if ready.vocabulary else None
    if changes:
        write_json(folder / GENERATION, with_changes(read_json(inside(giver.folder, GENERATION)), changes))


def _write_tokenizer(ready: Prepared, folder: Path) -> None:
    if ready.vocabulary is not None:
        ready.vocabulary.write(folder)
    else:
        copy_tokenizer(ready.opened[ready.document.donor].checkpoint, folder)
