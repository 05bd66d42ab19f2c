"""The start of models with several heads: a checkpoint with an output for every label of every task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunemerge.checkpoint.heads import Head, Heads, read_heads
from tunemerge.tasks import hub
from tunemerge.tasks.fitted import read_fitted
from tunemerge.tasks.labels import is_classifier
from tunemerge.tasks.several import specs_of, text_kind
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.text_model import load_model, output_tensors, save_model


def initialise_heads(
    folder: Path, out: Path, spec: Spec, seed: int, dropout: float | None, fitted: Sequence[Any]
) -> None:
    """Write the model of `folder` to `out` in float32 with the outputs of a spec of several heads: the checkpoint's own
    row where it has one of that name, else a fresh one, drawn from `seed`. `fitted`: what was fitted for each head."""
    import torch
    from transformers import AutoModelForSequenceClassification as Auto
    from transformers import set_seed

    config = hub.read_config(folder)
    hub.set_dropout(config, dropout, folder)
    if config.pad_token_id is None:
        config.pad_token_id = hub.tokenizer_of(folder).pad_token_id
    own = _own_rows(config, spec)
    kept = [label for label in spec.labels if label in own]
    with hub.quiet():
        set_seed(seed)
        before = load_model(folder, config, complete=True).state_dict() if own else {}
        config.id2label = dict(enumerate(spec.labels))
        config.label2id = {label: i for i, label in enumerate(spec.labels)}
        config.problem_type = None
        # Where there is a head, its rows and fresh ones are put together in a new layer.
        net = Auto.from_config(config, dtype=torch.float32) if own else load_model(folder, config)  # type: ignore[no-untyped-call]
        names = output_tensors(config)
        with torch.no_grad():
            for name, tensor in net.state_dict().items():
                if name in names and kept:
                    tensor[[spec.labels.index(k) for k in kept]] = before[name][[own.index(k) for k in kept]]
                elif name in before and name not in names:
                    tensor.copy_(before[name])
    earlier = read_heads(folder)
    learned = frozenset(kept) & (earlier.learned if earlier else frozenset(kept))
    each = tuple(Head(one.as_dict(), fit) for one, fit in zip(specs_of(spec), fitted, strict=True))
    heads = Heads(each, spec.labels, tuple(names), learned)
    for head in each:
        one = Spec.of({"task": head.spec})
        if set(one.labels) <= set(kept):
            had = earlier.fitted(head.spec) if earlier else read_fitted(folder)
            text_kind(one).refit(net, heads.rows(one.labels), had, head.fitted, folder)
    save_model(net, folder, out, heads=heads)


def _own_rows(config: Any, spec: Spec) -> list[str]:
    """What the checkpoint's output layer has, row by row; empty where it has no head."""
    known = config.to_dict()
    known["architectures"] = config.architectures
    values = [s for s in specs_of(spec) if text_kind(s).prediction == "value"]
    if len(values) == 1 and text_kind(values[0]).own_labels(known) is not None:
        return list(values[0].labels)  # a regressor's one output, however it is called
    return hub.label_names(config) if is_classifier(known) else []
