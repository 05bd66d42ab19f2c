"""What kinds of series share whose model is a PatchTSMixer or PatchTST of transformers: loading, saving, windows to
inputs. Every window is standardised by its own values up to the forecast: nothing looks ahead."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tunemerge.checkpoint.model import open_checkpoint
from tunemerge.errors import CheckpointError, UsageError
from tunemerge.tasks import hub
from tunemerge.tasks.batching import Arrays
from tunemerge.tasks.fitted import read_fitted, write_fitted
from tunemerge.tasks.rows import Rows
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import Loaded, Source, TaskKind
from tunemerge.tasks.windows import SeriesOptions, series_source

_CLASSES = {"patchtsmixer": "PatchTSMixerForPrediction", "patchtst": "PatchTSTForPrediction"}
_FLAT = 1e-9


class SeriesKind(TaskKind):
    """Rows are windows: `context`, float64 (context, 1 + channels) as bytes; `spec.labels` names the outputs."""

    head_names = ("head.",)
    timed = True

    def source(self, options: SeriesOptions) -> Source:
        return series_source(options)

    def own_labels(self, config: Mapping[str, Any]) -> tuple[str, ...] | None:
        if not any(str(a).endswith("ForPrediction") for a in config.get("architectures") or ()):
            return None
        names = config.get("id2label") or {}
        return tuple(names[i] for i in sorted(names, key=int))

    def refuses(self, config: Mapping[str, Any], spec: Spec | None = None) -> str | None:
        model = config.get("model_type")
        if model not in _CLASSES:
            return f"model_type is {model!r}; series need {' or '.join(map(repr, _CLASSES))}"
        norm = "norm_mlp" if model == "patchtsmixer" else "norm_type"
        if "batchnorm" in str(config.get(norm, "")).lower():
            text = "batch normalisation keeps running statistics, which are no weights and don't merge"
            return f"{norm} is {config[norm]}: {text}; make a model with layer normalisation"
        if spec is None:
            return None
        sizes = {
            "context_length": ("`context`", spec.options["context"]),
            "num_input_channels": ("value and `channels`", 1 + len(spec.options["channels"])),
        }
        wrong = [
            f"{key} is {config[key]}, the tasks' {what} make {expected}"
            for key, (what, expected) in sizes.items()
            if config.get(key, expected) != expected
        ]
        return "; ".join(wrong) or None

    def initialise(
        self, folder: Path, out: Path, spec: Spec, seed: int, dropout: float | None = None, fitted: Any = None
    ) -> None:
        """A base with another head, or none, gets a fresh one, drawn from `seed`. Raises UsageError where it reads
        windows of another size."""
        from transformers import set_seed

        config = hub.read_config(folder)
        self._refuse(config, spec, folder)
        hub.set_dropout(config, dropout, folder)
        kept = self._predicts(config, spec) and read_fitted(folder) == fitted
        config.id2label = dict(enumerate(spec.labels))
        config.label2id = {name: i for i, name in enumerate(spec.labels)}
        config.prediction_length, config.scaling, config.loss = len(spec.labels), None, "mse"
        if config.model_type == "patchtst":
            config.do_mask_input = False
        with hub.quiet():
            set_seed(seed)
            net = _load(folder, config, complete=kept)
            if not kept:
                set_seed(seed)
                net.head.apply(net._init_weights)
        self.save(Loaded(net, spec, folder, fitted), out)

    def load(self, folder: Path, spec: Spec, dropout: float | None = None) -> Loaded:
        config = hub.read_config(folder)
        self._refuse(config, spec, folder)
        if not self._predicts(config, spec):
            found = ", ".join(hub.label_names(config))
            raise UsageError(
                f"{folder / 'config.json'}: its outputs are {found}; expected {', '.join(spec.labels)}. Give the model "
                "a head for them first (operation init)"
            )
        hub.set_dropout(config, dropout, folder)
        with hub.quiet():
            net = _load(folder, config, complete=True)
        return Loaded(net.eval(), spec, folder, read_fitted(folder))

    def save(self, model: Loaded, out: Path) -> None:
        with hub.quiet():
            model.net.save_pretrained(out, max_shard_size="1000GB")
        write_fitted(out, model.fitted)

    def encode(self, model: Loaded, rows: Rows, max_length: int) -> Arrays:
        """`past_values` float32 (n, context, channels), standardised; `loc` and `scale` (n,) of the value's channel."""
        past, loc, scale = self.standardised(rows.features)
        return Arrays({"past_values": past.astype(np.float32), "loc": loc, "scale": scale})

    def standardised(self, context: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Windows (n, L, C) less their mean over their spread, and both of the first channel, (n,)."""
        loc, scale = moments(context)
        return (context - loc) / scale, loc[:, 0, 0], scale[:, 0, 0]

    def forward(self, model: Loaded, inputs: Mapping[str, Any]) -> Any:
        return model.net(past_values=inputs["past_values"]).prediction_outputs[..., 0]

    def _refuse(self, config: Any, spec: Spec, folder: Path) -> None:
        why = self.refuses(config.to_dict(), spec)
        if why:
            raise UsageError(f"{folder / 'config.json'}: {why}")

    def _predicts(self, config: Any, spec: Spec) -> bool:
        return self.own_labels(config.to_dict()) == spec.labels and config.prediction_length == len(spec.labels)


def moments(context: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every window and channel, (n, 1, C); 1 where a window is flat."""
    loc = context.mean(axis=1, keepdims=True)
    scale = context.std(axis=1, keepdims=True)
    return loc, np.where(scale > _FLAT * np.abs(context).max(axis=1, keepdims=True), scale, 1.0)


def _load(folder: Path, config: Any, complete: bool) -> Any:
    """The network in float32. `complete`: refused when the checkpoint lacks a tensor of it."""
    import torch
    import transformers

    open_checkpoint(folder)  # refuses what is truncated, pickled or leads out of the folder
    try:
        net, report = getattr(transformers, _CLASSES[config.model_type]).from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            ignore_mismatched_sizes=not complete,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as fault:
        raise CheckpointError(f"{folder}: transformers cannot load it: {fault}") from fault
    missing = sorted(name for name in report["missing_keys"] if complete or not name.startswith("head."))
    if missing:
        raise CheckpointError(f"{folder}: tensor {missing[0]} is missing (and {len(missing) - 1} more)")
    return net
