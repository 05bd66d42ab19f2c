"""What a config.json says about what its model predicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def is_classifier(config: Mapping[str, Any]) -> bool:
    """Whether it says that the checkpoint has a classification head."""
    return any(str(a).endswith("ForSequenceClassification") for a in config.get("architectures") or [])


def is_causal(config: Mapping[str, Any]) -> bool:
    """Whether it says that the checkpoint is a language model that reads from left to right."""
    return any(str(a).endswith(("ForCausalLM", "LMHeadModel")) for a in config.get("architectures") or [])


def own_labels(config: Mapping[str, Any]) -> list[str]:
    """`id2label` in index order; empty where there is none."""
    names = config.get("id2label") or {}
    return [str(names[k]) for k in sorted(names, key=int)]
