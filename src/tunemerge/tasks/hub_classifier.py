"""Hugging Face classifiers of texts or images: a head for other labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunemerge.errors import UsageError
from tunemerge.registry import nearest
from tunemerge.tasks import hub
from tunemerge.tasks.text_model import load_model, output_tensors

TEXTS, IMAGES = "AutoModelForSequenceClassification", "AutoModelForImageClassification"
"""The classes of transformers that such models are loaded by."""


def with_head(folder: Path, config: Any, labels: Sequence[str], seed: int, auto: str = TEXTS) -> Any:
    """The model of a folder with outputs for `labels`: a head that it has, put into their order by name (UsageError
    where it lacks one of them), or a fresh one drawn from `seed`. `config` is that of the folder."""
    import torch
    from transformers import set_seed

    names = hub.label_names(config)
    has_head = any(str(a).endswith(auto.removeprefix("AutoModel")) for a in config.architectures or ())
    if not has_head:
        _set_labels(config, labels)
    with hub.quiet():
        set_seed(seed)
        net = load_model(folder, config, has_head, auto)
        if has_head:
            picked = _pick(names, labels, folder)
            state = net.state_dict()
            for name in output_tensors(config, auto):
                state[name] = state[name][picked].clone()
            _set_labels(config, labels)
            with torch.device("meta"):
                net = empty_model(config, auto)
            net.load_state_dict(state, assign=True)
    return net


def empty_model(config: Any, auto: str = TEXTS) -> Any:
    """The class that a config describes, with weights as torch makes them."""
    return _auto(auto).from_config(config)


def _auto(name: str) -> Any:
    import transformers

    return getattr(transformers, name)


def _set_labels(config: Any, labels: Sequence[str]) -> None:
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: i for i, label in enumerate(labels)}
    config.problem_type = "single_label_classification"


def _pick(found: list[str], labels: Sequence[str], folder: Path) -> list[int]:
    """Where each of `labels` stands among the labels of the checkpoint."""
    for label in labels:
        if label not in found:
            raise UsageError(
                f"{folder / 'config.json'}: id2label has no {label!r}{nearest(label, found)}. Its head predicts "
                f"{', '.join(found)}; if these are the study's labels, write their names into id2label"
            )
    return [found.index(label) for label in labels]
