"""The modules that transformers builds for a checkpoint, without weights: what adapters call them, and their kinds.

An adapter speaks of modules and a checkpoint of tensors. Mostly their names are the same, but transformers renames some
while it loads (ViT, CLIP, models of vision and language). Only classes of transformers itself are built, on torch's
meta device: no code of a model's own, no memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Skeleton:
    """`names` maps a checkpoint's tensor to its name in the model; `tied` a parameter to the one that it shares.

    `embeddings` and `turned` are names of modules: lookup tables, and Conv1D layers, whose weight is (in, out).
    """

    names: Mapping[str, str]
    embeddings: frozenset[str]
    turned: frozenset[str]
    tied: Mapping[str, str]


def skeleton(config: Mapping[str, Any], tensors: Collection[str]) -> Skeleton | None:
    """None where the config names no class of transformers that can be built from it. Imports transformers."""
    architectures = config.get("architectures")
    name = architectures[0] if isinstance(architectures, list) and architectures else None
    if not isinstance(name, str) or not _plausible(config, len(tensors)):
        return None
    import torch
    import transformers

    build = getattr(transformers, name, None)
    if not isinstance(build, type) or not issubclass(build, transformers.PreTrainedModel) or not build.config_class:
        return None
    # Whatever a strange config makes a class raise; and these functions of transformers are not promised to stay.
    with contextlib.suppress(Exception), torch.device("meta"):
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key
        from transformers.pytorch_utils import Conv1D

        model = build(build.config_class.from_dict(dict(config)))
        changes = get_model_conversion_mapping(model)
        renamings = [change for change in changes if isinstance(change, WeightRenaming)]
        converters = [change for change in changes if isinstance(change, WeightConverter)]
        state = model.state_dict()
        names = {}
        for tensor in tensors:
            renamed, converted = rename_source_key(tensor, renamings, converters, model.base_model_prefix, state)
            # Tensors that are joined while loading (experts) have no name of their own; PEFT translates some of them.
            names[tensor] = tensor if converted else renamed
        if len(set(names.values())) < len(names):
            return None
        kinds = {
            kind: frozenset(n for n, module in model.named_modules() if isinstance(module, kind))
            for kind in (torch.nn.Embedding, Conv1D)
        }
        return Skeleton(names, kinds[torch.nn.Embedding], kinds[Conv1D], dict(model.all_tied_weights_keys))
    return None


def _plausible(config: Mapping[str, Any], tensors: int) -> bool:
    """Whether there are tensors for all layers and experts that the config claims: a billion would fill the memory."""
    counted = ("layer", "expert", "block", "depth")
    for key, value in config.items():
        if isinstance(value, Mapping) and not _plausible(value, tensors):
            return False
        if type(value) is int and value > tensors and any(word in key for word in counted):
            return False
    return True
