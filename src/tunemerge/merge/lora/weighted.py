"""The adapter of a merge that was made of models which are adapters on one model: a sum, exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunemerge.checkpoint.adapter import FOLDER, open_adapter
from tunemerge.checkpoint.adapter_writer import NewAdapter, Whole, write_adapter
from tunemerge.checkpoint.model import open_checkpoint
from tunemerge.checkpoint.source import open_model
from tunemerge.errors import TunemergeError
from tunemerge.merge.lora.mix import Mix
from tunemerge.merge.lora.together import combine_module
from tunemerge.merge.method import METHODS


def write_sum(models: Sequence[Path], merged: Path, method: str, parameters: Mapping[str, Any]) -> None:
    """Write the adapter of the merge in the folder `merged` beside it, from the adapters beside the `models`.

    The merge is linear or task_arithmetic with these parameters. What adapters keep whole (heads) is as in the merge.
    """
    weights = shares_of(method, parameters, len(models))
    adapters = [open_adapter(folder / FOLDER) for folder in models]
    modules = sorted({module for adapter in adapters for module in adapter.products})
    found = [combine_module(adapters, module, Mix("cat", weights), weights) for module in modules]
    saved = sorted({name for adapter in adapters for name in adapter.saved})
    heads = sorted({name for adapter in adapters for name in adapter.config.get("modules_to_save") or ()})
    record = {"made_by": "merge", "base": adapters[0].record["base"]}
    (merged / FOLDER).mkdir()
    with open_model(open_checkpoint(merged)) as model:
        whole = {name: Whole(model.source(name), model.tensors[name].shape) for name in saved}
        settings = {"task_type": adapters[0].config.get("task_type")}
        write_adapter(
            NewAdapter([w for w in found if w is not None], whole, heads, settings=settings, record=record),
            merged / FOLDER,
        )


def shares_of(method: str, parameters: Mapping[str, Any], count: int) -> tuple[float, ...]:
    """What each model's change is multiplied by."""
    values = METHODS[method].resolve(parameters, count)
    total, scale = sum(values["weight"]), values.get("lambda", 1.0)
    divided = values["normalize"] and abs(total) >= 1e-8
    shares = tuple(scale * w / (total if divided else 1.0) for w in values["weight"])
    if method == "linear" and abs(sum(shares) - 1) > 1e-6:
        raise TunemergeError(f"weights that sum to {sum(shares):g} scale the model under the adapters: normalize them")
    return shares
