"""What of a checkpoint an adapter can hold, and in which form: modules, kinds of weights, ties."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tunemerge.checkpoint.header import TensorInfo
from tunemerge.checkpoint.naming import is_table_module
from tunemerge.checkpoint.skeleton import Skeleton


@dataclass(frozen=True)
class Survey:
    """`names` maps a tensor to its name in the model that PEFT sees, `modules` a module to its own tensors.

    `containers` are modules that hold others. `embeddings` and `turned` are tensors: lookup tables, and weights stored
    as (in, out). `tied` maps a name in the model to the name that it shares its values with.
    """

    names: Mapping[str, str]
    modules: Mapping[str, tuple[str, ...]]
    containers: frozenset[str]
    embeddings: frozenset[str]
    turned: frozenset[str]
    tied: Mapping[str, str]

    def module(self, tensor: str) -> str:
        """The module that a tensor belongs to."""
        return self.names[tensor].rpartition(".")[0]

    def leaf(self, tensor: str) -> str:
        """What it is in its module: "weight", "bias"."""
        return self.names[tensor].rpartition(".")[2]


def survey(tensors: Mapping[str, TensorInfo], built: Skeleton | None) -> Survey:
    """Sort a checkpoint's tensors into modules. Without a skeleton names and shapes have to tell."""
    names = {name: built.names.get(name, name) if built else name for name in sorted(tensors)}
    modules: dict[str, list[str]] = {}
    for tensor, name in names.items():
        modules.setdefault(name.rpartition(".")[0], []).append(tensor)
    containers = {""}
    for module in modules:
        while "." in module:
            module = module.rpartition(".")[0]
            containers.add(module)
    if built:
        embeddings, turned = (
            frozenset(tensor for module in kind for tensor in modules.get(module, ()))
            for kind in (built.embeddings, built.turned)
        )
    else:
        embeddings = frozenset(name for name in tensors if is_table_module(name.removesuffix(".weight")))
        turned = _turned(tensors, embeddings)
    own = {module: tuple(found) for module, found in modules.items()}
    return Survey(names, own, frozenset(containers), embeddings, turned, built.tied if built else {})


def is_matrix(name: str, info: TensorInfo) -> bool:
    """Whether this is the weight of a linear layer or of an embedding."""
    return len(info.shape) == 2 and name.endswith(".weight") and info.size > 0


def saved_modules(wanted: str, seen: Survey) -> frozenset[str]:
    """The modules that PEFT replaces when `wanted` is one of its modules_to_save: all whose names end so."""
    return frozenset(m for m in {*seen.modules, *seen.containers} if m and m.endswith(wanted))


def _turned(tensors: Mapping[str, TensorInfo], embeddings: frozenset[str]) -> frozenset[str]:
    """A bias is as long as the output: that tells where a weight is (in, out); square ones follow the others."""
    square, straight, turned = set[str](), set[str](), set[str]()
    for name, info in tensors.items():
        bias = tensors.get(f"{name.removesuffix('.weight')}.bias")
        if is_matrix(name, info) and bias is not None and name not in embeddings:
            rows, columns = info.shape
            kind = square if rows == columns else straight if bias.shape == (rows,) else turned
            kind.add(name)
    return frozenset(turned | square if turned and not straight else turned)
