"""A low-rank adapter inside a torch model while it is trained: put in, taken out, folded into the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tunemerge.checkpoint.adapter import open_adapter
from tunemerge.checkpoint.adapter_writer import LowRank, NewAdapter, Whole
from tunemerge.checkpoint.fingerprint import fingerprint
from tunemerge.checkpoint.model import open_checkpoint
from tunemerge.checkpoint.naming import is_table, numbers
from tunemerge.checkpoint.source import ArraySource, open_model
from tunemerge.findings import Finding, error, refuse_errors
from tunemerge.registry import listed, nearest
from tunemerge.tasks.task import Loaded, kind_of
from tunemerge.tune.config import LoraConfig, TuneConfig

_NAME = "default"  # what PEFT calls an adapter that has no name of its own
_KEEP = ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "target_modules")


def lora_findings(config: TuneConfig, model: Path) -> list[Finding]:
    """What speaks against training this adapter on the model of a folder, from its headers alone."""
    if config.adapter is None:
        return []
    found = []
    if find_spec("peft") is None:
        text = f"method {config.method} needs the package 'peft', which is not installed"
        found.append(error("lora-missing", text, "tuning.method", "pip install 'tunemerge[lora]'"))
    tensors = open_checkpoint(model).tensors
    shapes = {n.removesuffix(".weight"): i.shape for n, i in tensors.items() if n.endswith(".weight")}
    matrices = {name: shape for name, shape in shapes.items() if len(shape) == 2}
    return found + _target_findings(config.adapter, matrices, str(model))


def attach(model: Loaded, config: LoraConfig, start: Path | None, dora: bool = False) -> list[str]:
    """Freeze `model`, put an adapter into it (the one in the folder `start`, else a fresh one), and unfreeze its head.

    `dora`: with magnitudes of its own (Liu et al. 2024, 2402.09353). The names of the head's parameters. UsageError
    where no module is such a target, or the rank is too large.
    """
    import torch
    from peft import LoraConfig as PeftConfig
    from peft import inject_adapter_in_model

    net = model.net
    ids = {id(p) for p in kind_of(model.spec).head(model)}
    heads = [name for name, p in net.named_parameters() if id(p) in ids]
    if start is None:
        targets = _targets(net, heads, config, str(model.folder))
        settings: dict[str, Any] = {"r": config.rank, "lora_alpha": config.alpha, "target_modules": targets}
    else:
        before = open_adapter(start)
        settings = {key: before.config[key] for key in _KEEP}
    settings |= {"lora_dropout": config.dropout, "use_dora": dora}
    inject_adapter_in_model(PeftConfig(**settings), net, _NAME)
    if start is not None:
        with torch.no_grad():
            for product in before.products.values():
                layer = net.get_submodule(product.module)
                layer.lora_A[_NAME].weight.copy_(torch.from_numpy(before.read(product.a)))
                layer.lora_B[_NAME].weight.copy_(torch.from_numpy(before.read(product.b)))
            for name, stored in before.saved.items():
                net.get_parameter(name).copy_(torch.from_numpy(before.read(stored)))
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name in heads or ".lora_" in name)
    return heads


def fold(net: Any) -> None:
    """Fold an adapter of any kind into the weights of `net`, which is a plain model again."""
    for name, layer in _layers(net).items():
        layer.merge(safe_merge=True)
        above, _, leaf = name.rpartition(".")
        setattr(net.get_submodule(above), leaf, layer.get_base_layer())
    net.requires_grad_(True)


def take_out(model: Loaded, heads: Sequence[str], base: Path) -> NewAdapter:
    """Fold the adapter into the weights of `model`, whose network is a plain one again, and return it.

    The sum is made in float64 and rounded once. `base` is the folder of the model that it is on.
    """
    import torch

    net, weights, scales = model.net, [], {}
    for name, layer in _layers(net).items():
        a, b = (side[_NAME].weight.detach() for side in (layer.lora_A, layer.lora_B))
        scale = layer.scaling[_NAME]
        change = scale * (b.double() @ a.double())
        plain = layer.get_base_layer()
        with torch.no_grad():
            plain.weight.copy_(plain.weight.double() + (change.T if layer.fan_in_fan_out else change))
        above, _, leaf = name.rpartition(".")
        setattr(net.get_submodule(above), leaf, plain)
        weights.append(LowRank(name, b.cpu().numpy(), a.cpu().numpy()))
        scales[name] = scale
    net.requires_grad_(True)
    whole = {n: _whole(n, net.get_parameter(n)) for n in heads}
    return NewAdapter(
        weights,
        whole,
        sorted({name.split(".")[0] for name in heads}),
        settings={**_scaling(weights, scales), "task_type": kind_of(model.spec).adapter_task},
        record={"made_by": "tune", "base": _identity(base)},
    )


def _scaling(weights: Sequence[LowRank], scales: Mapping[str, float]) -> dict[str, Any]:
    """The keys of adapter_config.json for factors that are scaled when they are used, all by the same alpha / rank."""
    (alpha,) = {scales[w.module] * w.rank for w in weights}
    return {"lora_alpha": alpha, "alpha_pattern": {}}


def _identity(base: Path) -> dict[str, str]:
    with open_model(open_checkpoint(base)) as model:
        return {"fingerprint": fingerprint(model)}


def _whole(name: str, parameter: Any) -> Whole:
    values = parameter.detach().cpu().numpy()
    return Whole(ArraySource(values.reshape(-1).copy(), "F32", name), values.shape)


def _layers(net: Any) -> dict[str, Any]:
    from peft.tuners.lora import LoraLayer

    return {name: module for name, module in net.named_modules() if isinstance(module, LoraLayer)}


def _targets(net: Any, heads: Sequence[str], config: LoraConfig, where: str) -> list[str]:
    """Full names of the modules that get an adapter."""
    import torch
    from transformers.pytorch_utils import Conv1D

    matrices = {
        name: tuple(module.weight.shape)
        for name, module in net.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and f"{name}.weight" not in heads
    }
    refuse_errors(_target_findings(config, matrices, where))
    return _chosen(config.targets, matrices)


def _target_findings(config: LoraConfig, matrices: Mapping[str, tuple[int, ...]], where: str) -> list[Finding]:
    """Targets that no matrix has, and a rank that one can't have. `matrices`: shapes by module's name."""
    chosen = _chosen(config.targets, matrices)
    found = []
    ends = sorted({name.rpartition(".")[2] for name in matrices if numbers(f"{name}.weight")})
    if config.targets == "auto" and not chosen:
        text = f"no numbered layers with matrices are found in {where}, so auto finds no targets"
        found.append(error("lora-targets", text, "tuning.lora.targets", "name the modules: targets: [query, value]"))
    for target in config.targets if config.targets != "auto" else ():
        if not _chosen([target], matrices):
            text = f"no matrix of {where} is called {target!r}{nearest(target, ends)}"
            fix = f"its layers have {listed(ends)}" if ends else "the model has no numbered layers"
            found.append(error("lora-targets", text, "tuning.lora.targets", fix))
    narrow = min((min(matrices[name]), name) for name in chosen) if chosen else (config.rank, "")
    if config.rank > narrow[0]:
        text = f"rank {config.rank} is more than {narrow[1]} {list(matrices[narrow[1]])} can have"
        found.append(error("lora-rank", text, "tuning.lora.rank", f"a rank of at most {narrow[0]}, or fewer targets"))
    return found


def _chosen(targets: Sequence[str] | str, matrices: Mapping[str, tuple[int, ...]]) -> list[str]:
    if targets == "auto":
        return [name for name in matrices if numbers(f"{name}.weight") and not is_table(f"{name}.weight")]
    return [name for name in matrices if any(name == t or name.endswith(f".{t}") for t in targets)]
