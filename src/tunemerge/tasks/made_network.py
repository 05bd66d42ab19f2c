"""Made models: plain torch modules that a function returns, in folders whose config.json says how to make them again.

A study names `FILE:FUNCTION`, a function of a person's own, or a network of the registry `NETS`. The folder has its
name, its keywords and the digest of its code, never the code: a model is loaded only where the same code was named and
loaded before (`build:`, `plugins:` or `--plugin`), so that no folder from elsewhere can run anything.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tunemerge.checkpoint.model import read_json
from tunemerge.errors import CheckpointError, UsageError
from tunemerge.findings import FindingsError, error
from tunemerge.plugin_code import failure
from tunemerge.plugins import loaded_plugin, module_of
from tunemerge.registry import Registry, nearest
from tunemerge.tasks.task import Loaded

NETS: Registry[Callable[..., Any]] = Registry("network", "tunemerge.tasks.nets", "tunemerge.networks")

MODEL_TYPE = "tunemerge-made"
_DROPOUT = "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"


@dataclass(frozen=True)
class Description:
    """What config.json says: the function, its keywords, the digest of its code (empty for what ships), the tensors of
    the head (name, axis of the outputs) and the names of the outputs, as far as they are known. `drawn`: the weights
    beside it are one draw of many, for whoever looks at shapes; every seed draws its own."""

    build: str
    config: Mapping[str, Any] = field(default_factory=dict)
    code: str = ""
    head: tuple[tuple[str, int], ...] = ()
    labels: tuple[str, ...] = ()
    drawn: bool = False

    def write(self, folder: Path) -> None:
        found = {
            "model_type": MODEL_TYPE,
            "build": self.build,
            "config": dict(self.config),
            "code": self.code,
            "head": [list(part) for part in self.head],
            **({"drawn": True} if self.drawn else {}),
            **({"id2label": {str(i): label for i, label in enumerate(self.labels)}} if self.labels else {}),
        }
        (folder / "config.json").write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", "utf-8")

    @classmethod
    def read(cls, folder: Path) -> Description:
        """Raises CheckpointError where the folder has none."""
        config = read_json(folder / "config.json")
        if not is_made(config):
            raise CheckpointError(f"{folder / 'config.json'}: not of a made model (no `build`)")
        head = tuple((str(name), int(axis)) for name, axis in config.get("head", ()))
        labels, drawn = own_labels(config) or (), bool(config.get("drawn"))
        return cls(config["build"], config.get("config", {}), config.get("code", ""), head, labels, drawn)


def is_made(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is of a made model."""
    return config.get("model_type") == MODEL_TYPE


def own_labels(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The names of the outputs; None where no head was made yet."""
    names = config.get("id2label") or {}
    return tuple(str(names[k]) for k in sorted(names, key=int)) or None


def make(description: Description, outputs: int, fitted: Any = None) -> Any:
    """Call the function; torch's seed decides the weights. Float32, on the CPU, in evaluation mode.

    It is given its keywords, and `outputs` (how many numbers a row) and `fitted` (what was fitted to training rows)
    where it has such parameters. Raises FindingsError where it raises or returns no torch module.
    """
    import torch

    function, plugin = _function(description)
    wanted = inspect.signature(function).parameters
    given = {n: v for n, v in (("outputs", outputs), ("fitted", fitted)) if n in wanted and n not in description.config}
    try:
        net = function(**description.config, **given)
    except (Exception, SystemExit) as problem:
        if plugin is None:
            raise UsageError(f"{description.build} can't be made: {type(problem).__name__}: {problem}") from problem
        found = failure(plugin, problem, description.build)
        text = found.message.replace("can't be loaded", "raised")
        raise FindingsError([replace(found, code="build-raised", message=text)]) from problem
    if not isinstance(net, torch.nn.Module):
        text = f"returned {type(net).__name__}; expected a torch.nn.Module"
        raise FindingsError([error("build-no-module", text, description.build, "return the network itself")])
    if not any(True for _ in net.parameters()):
        raise FindingsError([error("build-no-module", "returned a module without parameters", description.build)])
    made: Any = net.float().eval()
    made.tunemerge_made = description
    return made


def head_of(description: Description, net: Any, outputs: int, fitted: Any = None) -> tuple[tuple[str, int], ...]:
    """The tensors of the head and their axis of outputs: those whose shape follows `outputs`, where the function has
    that parameter; else all of the last module that has parameters. The random state stays as it was."""
    import torch

    function, _ = _function(description)
    if "outputs" in inspect.signature(function).parameters and "outputs" not in description.config:
        with torch.random.fork_rng():
            wider = make(description, outputs + 1, fitted).state_dict()
        shapes = {n: (tuple(t.shape), tuple(wider[n].shape)) for n, t in net.state_dict().items() if n in wider}
        axes = {
            name: next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
            for name, (one, other) in shapes.items()
            if one != other
        }
        if axes:
            return tuple(axes.items())
    last = [name for name, module in net.named_modules() if any(True for _ in module.parameters(recurse=False))][-1]
    own = dict(net.get_submodule(last).named_parameters(recurse=False))
    return tuple((f"{last}.{name}" if last else name, 0) for name in own)


def body(model: Loaded) -> Any:
    """A module of all that is not in the head."""
    import torch

    heads = {name for name, _ in model.net.tunemerge_made.head}
    head = {id(p) for name, p in model.net.named_parameters() if name in heads}
    modules, alone = list[Any](), list[Any]()

    def collect(module: Any) -> None:
        if not any(id(p) in head for p in module.parameters()):
            modules.append(module)
            return
        alone.extend(p for p in module.parameters(recurse=False) if id(p) not in head)
        for child in module.children():
            collect(child)

    collect(model.net)
    below = torch.nn.Module()
    below.modules_below = torch.nn.ModuleList(modules)
    below.parameters_below = torch.nn.ParameterList(alone)
    return below


def logits(output: Any) -> Any:
    """The one tensor (batch, outputs) of what a network returns: itself, `.logits`, or the first of a tuple."""
    if isinstance(output, tuple):
        return output[0]
    return getattr(output, "logits", output)


def set_dropout(net: Any, dropout: float | None, described: Description) -> None:
    """Set every dropout probability of the network; None leaves them. UsageError where it has none to set."""
    if dropout is None:
        return
    import torch

    layers = [m for m in net.modules() if type(m).__name__ in _DROPOUT]
    attention = [m for m in net.modules() if isinstance(m, torch.nn.MultiheadAttention)]
    if dropout and not layers and not attention:
        raise UsageError(f"{described.build}: has no dropout layer whose probability could be set; leave dropout out")
    for layer in layers:
        layer.p = dropout
    for layer in attention:
        layer.dropout = dropout


def _function(described: Description) -> tuple[Callable[..., Any], Any]:
    """The function, and the plug-in that it is of (None for what ships). Raises UsageError where it can't be had."""
    if ":" not in described.build:
        return NETS[described.build], NETS.plugin(described.build)
    file, _, name = described.build.rpartition(":")
    plugin = loaded_plugin(described.code)
    if plugin is None:
        raise UsageError(
            f"made by {described.build} (code {described.code[:10]}), which is not loaded here, or has changed since: "
            f"name the file it was made with (--plugin {file}), or give `build`, `config` and `weights` anew"
        )
    module = module_of(plugin)
    if not callable(getattr(module, name, None)):
        functions = [n for n, v in vars(module).items() if inspect.isfunction(v) and not n.startswith("_")]
        text = f"{file} has no function {name!r}{nearest(name, functions)}"
        raise FindingsError([error("no-such-function", text, described.build)])
    return getattr(module, name), plugin
