"""Goes on with a training that was killed: all that the next step depends on, written now and then, and put back.

What is not in a checkpoint is made again as it was: rows, their order, the model's frozen weights. On a CPU the rest
then runs bit for bit as it would have.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tunemerge.tasks.meter import Meter
from tunemerge.tune.checkpoints import Cadence, Checkpoint, named, part, read_checkpoint, write_checkpoint
from tunemerge.tune.keeper import Keeper
from tunemerge.tune.training_loss import TrainingLoss


@dataclass
class Resume:
    """The state of one training. `folder` is where its checkpoints are (None: none are written); `identity` says which
    training it is: checkpoints of another one are not taken."""

    net: Any
    keeper: Keeper
    meter: Meter
    loss: TrainingLoss
    folder: Path | None
    identity: str = ""
    cadence: Cadence = field(default_factory=Cadence)
    seconds_before: float = 0.0
    micro_batch: int | None = None  # of `micro_batch: auto`: what was found to fit
    _optimizer: Any = None
    _found: Checkpoint | None = None

    def __post_init__(self) -> None:
        self._began = time.perf_counter()

    def begin(self) -> int:
        """Put model, scores and counts back; how many optimizer steps are done."""
        found = read_checkpoint(self.folder) if self.folder else None
        if found is None or found.values["identity"] != self.identity:
            return 0
        self._found = found
        self.seconds_before = found.values["seconds"]
        self.micro_batch = found.values.get("micro_batch")
        self.keeper.set_state(part(found.tensors, "keeper"), found.values["keeper"])
        self.meter.set_state(found.values["meter"])
        self.loss.set_state(found.values["loss"])
        self.net.load_state_dict(part(found.tensors, "model"), strict=False)
        return found.step

    def started(self, optimizer: Any) -> None:
        """The optimizer is there: put its state back."""
        self._optimizer = optimizer
        if self._found is None:
            return
        known: dict[str, dict[str, Any]] = {}
        for name, tensor in part(self._found.tensors, "optimizer").items():
            parameter, _, key = name.rpartition(".")
            known.setdefault(parameter, {})[key] = tensor
        for name, parameter in self.net.named_parameters():
            if name in known:
                optimizer.state[parameter] = {key: t.to(parameter.device) for key, t in known[name].items()}

    def before_first_step(self) -> None:
        """What the Trainer itself has drawn since the start is not drawn by a run that goes on: put chance back."""
        if self._found is not None:
            _set_chance(part(self._found.tensors, "chance"), self._found.values["chance"])
            self._found = None

    def after_step(self, step: int) -> None:
        """Write a checkpoint if it is time; the last step needs none."""
        if self.folder is None or step == self.keeper.total or not self.cadence.due():
            return
        begun = time.perf_counter()
        kept, keeper = self.keeper.state()
        chance, numbers = _chance()
        tensors = {
            **named("model", trained_state(self.net)),
            **named("optimizer", self._optimizer_state()),
            **named("keeper", kept),
            **named("chance", chance),
        }
        values = {
            "identity": self.identity,
            "micro_batch": self.micro_batch,
            "keeper": keeper,
            "meter": self.meter.state(),
            "loss": self.loss.state(),
            "chance": numbers,
            "seconds": self.seconds_before + begun - self._began,
        }
        write_checkpoint(self.folder, Checkpoint(step, tensors, values))
        self.cadence.written(time.perf_counter() - begun)

    def put_last_good(self) -> int:
        """Put the best state that validation saw, else that of the last checkpoint, into the model; its step, or 0."""
        step = self.keeper.put_best()
        found = read_checkpoint(self.folder) if self.folder and not step else None
        if found is None or found.values["identity"] != self.identity:
            return step
        self.net.load_state_dict(part(found.tensors, "model"), strict=False)
        return found.step

    def _optimizer_state(self) -> dict[str, Any]:
        state = self._optimizer.state
        return {f"{n}.{key}": t for n, p in self.net.named_parameters() for key, t in state.get(p, {}).items()}


def trained_state(net: Any) -> dict[str, Any]:
    """The tensors of a model that training changes: trained parameters and buffers."""
    trained = [(name, p.detach()) for name, p in net.named_parameters() if p.requires_grad]
    return dict([*trained, *net.named_buffers()])


def _chance() -> tuple[dict[str, Any], dict[str, Any]]:
    """The state of every generator that a training may draw from."""
    import torch

    tensors = {"torch": torch.get_rng_state()}
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        tensors["cuda"] = torch.cuda.get_rng_state()
    name, keys, *rest = np.random.get_state(legacy=True)
    return tensors, {"python": random.getstate(), "numpy": [name, np.asarray(keys).tolist(), *rest]}


def _set_chance(tensors: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    import torch

    torch.set_rng_state(tensors["torch"])
    if "cuda" in tensors:
        torch.cuda.set_rng_state(tensors["cuda"])
    version, internal, gauss = values["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = values["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), *rest))
