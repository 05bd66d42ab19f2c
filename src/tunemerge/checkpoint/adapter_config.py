"""Is this the configuration of a plain LoRA adapter? Whatever would make W + scale * B @ A wrong is refused by name."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NoReturn

from tunemerge.errors import CheckpointError

REMEDY = "load it with PEFT on its base, call merge_and_unload, save the model and use that"
_OTHER_KINDS = {
    "use_dora": "DoRA, which also changes the norms of the weights",
    "use_qalora": "QA-LoRA, which pools the inputs",
    "use_bdlora": "BD-LoRA, whose factors are block-diagonal",
    "kasa_config": "KaSA, which also truncates the base",
    "monteclora_config": "MonteCLoRA, which samples its factors",
    "layer_replication": "layer_replication, which repeats layers of the base",
    "trainable_token_indices": "trainable_token_indices, which replaces single rows of embeddings",
    "target_parameters": "target_parameters, which adapts experts stacked in one tensor",
}
_UNMERGEABLE = {
    "alora_invocation_tokens": "aLoRA, which acts on part of a text only",
    "arrow_config": "Arrow, which chooses among adapters for every token",
}
_CHANGES_BASE = ("pissa", "corda", "olora", "loftq", "lora_ga")
_LEAVES_BASE = ("gaussian", "eva", "orthogonal", "mica")


def check_config(path: Path, config: dict[str, Any]) -> None:
    """Raises CheckpointError naming the file, the key and what to do."""
    kind = config.get("peft_type")
    if kind != "LORA":
        _refuse(path, f"peft_type is {kind!r}, and only LORA adapters are read; {REMEDY}")
    for key, what in _OTHER_KINDS.items():
        if config.get(key):
            _refuse(path, f"{key}: this is {what}, and only plain LoRA is read; {REMEDY}")
    for key, what in _UNMERGEABLE.items():
        if config.get(key):
            _refuse(path, f"{key}: this is {what}; no weight equals it, so it can't be merged")
    start = config.get("init_lora_weights", True)
    if isinstance(start, str) and start.lower().startswith(_CHANGES_BASE):
        _refuse(
            path,
            f"init_lora_weights is {start!r}, which changed the base before training; {REMEDY}, or save the adapter "
            "with path_initial_model_for_weight_conversion, which makes it plain LoRA",
        )
    if not isinstance(start, bool | None) and not (isinstance(start, str) and start.lower() in _LEAVES_BASE):
        _refuse(path, f"init_lora_weights is {start!r}, which is not known to leave the base as it is; {REMEDY}")
    if not _positive(config.get("r", 8)) or not isinstance(config.get("r", 8), int):
        _refuse(path, f"r must be a positive whole number, not {config.get('r')!r}")
    if not _number(config.get("lora_alpha", 8)):
        _refuse(path, f"lora_alpha must be a number, not {config.get('lora_alpha')!r}")
    for key, good, what in (
        ("rank_pattern", _positive, "positive numbers"),
        ("alpha_pattern", _number, "numbers"),
    ):
        patterns = config.get(key) or {}
        if not isinstance(patterns, dict) or not all(good(value) for value in patterns.values()):
            _refuse(path, f"{key} must map names of modules to {what}")
    saved = config.get("modules_to_save")
    if saved is not None and not (isinstance(saved, list) and all(isinstance(name, str) for name in saved)):
        _refuse(path, f"modules_to_save must be a list of names, not {saved!r}")


def _number(value: Any) -> bool:
    return (type(value) is int and abs(value) < 2**53) or (type(value) is float and math.isfinite(value))


def _positive(value: Any) -> bool:
    return _number(value) and value > 0


def _refuse(path: Path, message: str) -> NoReturn:
    raise CheckpointError(f"{path}: {message}")
