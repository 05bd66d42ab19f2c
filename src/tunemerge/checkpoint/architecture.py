"""Do the configs describe one architecture?"""

from __future__ import annotations

from collections.abc import Mapping

from tunemerge.checkpoint.model import Checkpoint
from tunemerge.findings import Finding, error

_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "dim", "n_layers", "n_heads")
"""What tensors don't always show: as many heads in another number of dimensions have the same shapes."""


def architecture_findings(models: Mapping[str, Checkpoint], layers: bool = True) -> list[Finding]:
    """An error for each model whose model_type or sizes differ from the first one's.

    Without `layers` the number of layers may differ.
    """
    known = {name: model for name, model in models.items() if model.has_config}
    if not known:
        return []
    sizes = [key for key in _SIZES if layers or "layers" not in key]
    (first, expected), *others = known.items()
    findings = []
    for name, model in others:
        ours, theirs = expected.config.get("model_type"), model.config.get("model_type")
        differ = [
            f"{key} {model.config[key]!r} instead of {expected.config[key]!r}"
            for key in sizes
            if key in model.config and key in expected.config and model.config[key] != expected.config[key]
        ]
        if ours != theirs:
            text = f"a {theirs or 'model of unnamed type'}, and {first} is a {ours or 'model of unnamed type'}"
            findings.append(error("architecture", text, name, "merge models tuned from one base"))
        elif differ:
            text = f"{', '.join(differ)} (as in {first})"
            findings.append(error("architecture-size", text, name, "merge models tuned from one base"))
    return findings
