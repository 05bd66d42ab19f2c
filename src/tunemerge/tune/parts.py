"""Which parameters a tuning trains, by `method`. The head always learns; adapters are in `adapter.py`."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

from tunemerge.findings import Finding, error, refuse_errors
from tunemerge.tasks.task import Loaded, kind_of
from tunemerge.tune.config import TuneConfig
from tunemerge.tune.layers import depths

PARTS = ("head", "bitfit", "last_layers", "attention")
_ATTENTION = re.compile(r"(^|\.)(\w*attention|\w*attn|self_attn|mha)(\.|\Z)", re.IGNORECASE)
_NORM = re.compile(r"norm|(^|[._])ln(_?\d+|_\w)?(\.|\Z)|batch_?norm", re.IGNORECASE)


def free_parts(model: Loaded, config: TuneConfig) -> None:
    """Freeze all parameters of the network but those that `config.method` trains. FindingsError where it has none."""
    net = model.net
    head = head_names(model)
    names = [name for name, _ in net.named_parameters()]
    refuse_errors(part_findings(config, names, head, str(model.folder)))
    chosen = set(trained_names(names, head, config))
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name in chosen)


def head_names(model: Loaded) -> set[str]:
    """The names of the parameters of a model's head; none where its kind has no head."""
    kind: Any = kind_of(model.spec)
    if not getattr(kind, "head_names", True):
        return set()
    ids = {id(p) for p in kind.head(model)}
    return {name for name, p in model.net.named_parameters() if id(p) in ids}


def trained_names(names: Sequence[str], head: Collection[str], config: TuneConfig) -> list[str]:
    """Those of `names` (parameters in the network's own order) that learn.

    bitfit: biases (Ben Zaken et al. 2021, 2106.10199). attention: the matrices and biases of attention (Touvron et al.
    2022, 2203.09795). last_layers: the last `layers` numbered ones and what comes after them.
    """
    if config.method not in PARTS:
        return list(names)
    if config.method == "bitfit":
        body = [n for n in names if n.endswith("bias")]
    elif config.method == "attention":
        body = [n for n in names if _ATTENTION.search(n) and not _NORM.search(n)]
    elif config.method == "last_layers":
        depth = depths(names, head)
        top = max(depth.values(), default=0)
        body = [n for n in names if depth[n] >= top - config.layers]
    else:
        body = []
    return [n for n in names if n in head or n in set(body)]


def part_findings(config: TuneConfig, names: Sequence[str], head: Collection[str], where: str) -> list[Finding]:
    """Errors where the chosen part isn't there. `names`: of a network's parameters, or of a checkpoint's tensors."""
    if config.method not in PARTS or config.method == "head":
        return []
    body = set(trained_names(names, head, config)) - set(head)
    layers = max(depths(names, head).values(), default=1) - 1
    if config.method == "last_layers" and config.layers > layers:
        text = f"{where} has {layers} numbered layers, so its last {config.layers} can't be tuned alone"
        return [error("no-part", text, "tuning.layers", f"at most {layers}, or another method" if layers else "full")]
    if body:
        return []
    what = "biases" if config.method == "bitfit" else "attention"
    return [error("no-part", f"no {what} found in {where}: nothing but the head would learn", "tuning.method", "full")]
