"""Do classification heads predict the same labels?"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tunemerge.checkpoint.model import Checkpoint
from tunemerge.findings import Finding, error, note, warning

_UNNAMED = re.compile(r"LABEL_\d+\Z")


def label_findings(models: Mapping[str, Checkpoint]) -> list[Finding]:
    """Compare the labels of all models with a classification head with the first one's, by name.

    Other names are an error, another order a note (heads are aligned by name), unnamed labels a warning.
    """
    named = {name: labels for name, model in models.items() if (labels := _labels(model)) is not None}
    findings = [
        warning(
            "labels-unnamed",
            f"its head has {len(labels)} labels without names (LABEL_0, ...), so nothing tells which is which",
            name,
            "write the labels into id2label and label2id of its config.json",
        )
        for name, labels in named.items()
        if all(_UNNAMED.match(label) for label in labels)
    ]
    known = {name: labels for name, labels in named.items() if not all(_UNNAMED.match(label) for label in labels)}
    if len(known) < 2:
        return findings
    (first, expected), *others = known.items()
    for name, labels in others:
        if set(labels) != set(expected):
            text = f"predicts {', '.join(labels)}, and {first} predicts {', '.join(expected)}"
            fix = "rename the labels in id2label where they mean the same, or leave the model out"
            findings.append(error("labels-differ", text, name, fix))
        elif labels != expected:
            text = f"has the labels of {first} in another order; heads are aligned by name"
            findings.append(note("labels-reordered", text, name))
    return findings


def _labels(model: Checkpoint) -> list[str] | None:
    """In index order; None where there is no classification head or its labels can't be read."""
    architectures = model.config.get("architectures")
    classifies = isinstance(architectures, list) and any("Classification" in str(a) for a in architectures)
    labels = model.config.get("id2label")
    if not classifies or not isinstance(labels, dict) or not labels:
        return None
    try:
        return [str(labels[key]) for key in sorted(labels, key=int)]
    except ValueError:
        return None
