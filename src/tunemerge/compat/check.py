"""Every check over a set of models, all findings at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tunemerge.checkpoint.architecture import architecture_findings
from tunemerge.checkpoint.model import Checkpoint, open_checkpoint
from tunemerge.checkpoint.preprocessing import preprocessing_findings
from tunemerge.checkpoint.tokenizers import tokenizer_findings
from tunemerge.compat.finite import finite_findings
from tunemerge.compat.labels import label_findings
from tunemerge.compat.tensors import tensor_findings
from tunemerge.errors import CheckpointError
from tunemerge.findings import Finding, error


def check_models(models: Mapping[str, Path], base: Path | None) -> list[Finding]:
    """What speaks against merging `models` (by name), or against `base` as their common start.

    Checks each file, that configs, tensors, tokenizers and labels fit together, and every weight for NaN and
    Inf. Heads that only some of the models have are a note: they are averaged by label name, or made afresh.
    """
    opened: dict[str, Checkpoint] = {}
    findings: list[Finding] = []
    for name, path in [*([("base", base)] if base is not None else []), *models.items()]:
        try:
            opened[name] = open_checkpoint(path)
        except CheckpointError as problem:
            findings.append(_unreadable(name, str(problem)))
    for name, model in opened.items():
        if not model.has_config:
            findings.append(
                error(
                    "config-missing",
                    f"{model.folder}: no config.json",
                    name,
                    "copy the config.json of the model it was tuned from",
                )
            )
        findings += finite_findings(name, model)
    if len(opened) > 1:
        findings += architecture_findings(opened)
        findings += tensor_findings(opened)
        folders = {name: model.folder for name, model in opened.items()}
        findings += tokenizer_findings(folders) + preprocessing_findings(folders)
        findings += label_findings({name: model for name, model in opened.items() if name in models})
    return findings


def _unreadable(name: str, problem: str) -> Finding:
    if "pickle" in problem:
        message, _, _ = problem.partition(";")
        return error(
            "pickle-weights",
            message,
            name,
            "load it where you trust it, and `model.save_pretrained(folder)` writes safetensors",
        )
    return error("checkpoint-unreadable", problem, name)
