"""Fine-tune one model on a fixed number of examples and keep the best or the last state."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from tunemerge.checkpoint.adapter import FOLDER
from tunemerge.checkpoint.adapter_writer import write_adapter
from tunemerge.checkpoint.heads import read_heads
from tunemerge.data.load import content_of
from tunemerge.data.seen import pass_on, row_hashes
from tunemerge.errors import UsageError
from tunemerge.findings import refuse_errors
from tunemerge.graph.cost import Cost
from tunemerge.tasks import flops, hub
from tunemerge.tasks.meter import metered
from tunemerge.tasks.precision import torch_device
from tunemerge.tasks.rows import Rows
from tunemerge.tasks.several import specs_of
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import Loaded, kind_of
from tunemerge.tune.adapter import attach, fold, take_out
from tunemerge.tune.averaging import Average
from tunemerge.tune.class_weights import class_weight_findings, class_weights
from tunemerge.tune.config import TuneConfig
from tunemerge.tune.distil import distil_findings, teachers_answers
from tunemerge.tune.diverged import DivergedError, diverged
from tunemerge.tune.keeper import Keeper, Point, Progress, PrunedError, Watch
from tunemerge.tune.mixup import mixup_findings
from tunemerge.tune.objective import Lesson
from tunemerge.tune.order import training_order
from tunemerge.tune.parts import PARTS, free_parts
from tunemerge.tune.record import write_record
from tunemerge.tune.resume import Resume
from tunemerge.tune.together import joined
from tunemerge.tune.trainer import train
from tunemerge.tune.training_loss import TrainingLoss

LAST_GOOD = "last_good"


@dataclass(frozen=True)
class Tuned:
    """What a tuning did: its curve, the step whose state was kept, and its cost (`tune_model` leaves seconds and memory
    to its caller; its seconds are those of an attempt that it went on with). One that was `stopped` has no model."""

    curve: tuple[Point, ...]
    chosen_step: int
    cost: Cost
    stopped: Literal["", "pruned", "diverged"] = ""


def tune_model(
    model: Path,
    out: Path,
    train_rows: Sequence[Path],
    validation_rows: Sequence[Path] = (),
    *,
    task: Spec,
    seed: int,
    examples: int,
    config: TuneConfig | None = None,
    under: Path | None = None,
    teachers: Sequence[Path] = (),
    progress: Progress = lambda fraction, message: None,
    unfinished: Path | None = None,
    identity: str = "",
    watch: Watch | None = None,
) -> Tuned:
    """Train the model of a folder on exactly `examples` examples and write the chosen state to the folder `out`.

    `out` gets config.json, model.safetensors (float32), the tokenizer's files as they are, the curve
    (tunemerge_tune.json) and hashes of all rows that it and `model` have seen (tunemerge_rows.json). Rows are Parquet
    files; several are concatenated. The same inputs give the same bits on one CPU thread. With `method: lora` the
    adapter is folded into the weights and stands in the folder adapter/ too; where `model` has one of an earlier
    tuning, on the model of the folder `under`, that one is trained on.
    With `teachers` (models of the same task, of any architecture) it also learns what they answer (`config.distil`).
    Now and then a checkpoint is written to the folder `unfinished`; where one is there, of a tuning of this `identity`,
    that one is gone on with. Who calls removes the folder in the end.
    `watch` is shown the curve after every evaluation, and may end the training; a training that it ended, or that
    diverged while it was watched, is returned without a model.
    Raises UsageError for bad rows, labels or targets, DivergedError when the training diverges; the last good state is
    then a model in `unfinished`.
    """
    import torch

    config = config or TuneConfig()
    if examples < 1:
        raise UsageError(f"examples is {examples}: a tuning needs at least one")
    kind, device = kind_of(task), torch_device()
    rows = kind.read(train_rows, task)
    held_out = kind.read(validation_rows, task) if validation_rows else None
    out.mkdir(parents=True, exist_ok=True)
    answers, taught = None, Cost()
    with hub.quiet():
        if teachers:
            refuse_errors(distil_findings(task))
            answers, taught = teachers_answers(teachers, rows, task, config, device)
        loaded, lesson, heads = prepare(model, rows, task, config, seed, examples, under, answers)
        net, encoded = loaded.net, lesson.encoded
        validation = None
        if held_out is not None:
            validation = kind.encode(loaded, held_out, config.max_length), held_out
        average = Average(net, config.average, -(-examples // config.batch_size)) if config.average else None
        keeper = Keeper(loaded, examples, config, validation, progress, average, watch)
        stopped: Literal["", "pruned", "diverged"] = ""
        with joined(device) as together, metered(net) as meter:
            # Where there are several processes none writes checkpoints: each has drawn its own masks.
            kept = unfinished if together.size == 1 else None
            resume = Resume(net, keeper, meter, TrainingLoss(together), kept, identity)
            try:
                train(loaded, lesson, config, seed, device, out, resume, keeper.after_step, together)
                together.gather(meter)
                keeper.restore()
                if not all(bool(torch.isfinite(p).all()) for p in net.parameters()):
                    rate = config.learning_rate
                    raise diverged("the weights are no numbers any more", keeper.total, keeper.total, rate, rate, [])
            except PrunedError:
                stopped = "pruned"
            except DivergedError as problem:
                if watch is None:
                    raise problem.with_kept(_keep_last_good(loaded, resume, unfinished)) from None
                stopped = "diverged"
        once = config.trainable + " again" * config.gradient_checkpointing
        train_flops = flops.flops(meter.train_shapes, flops.measure(loaded, encoded, once, True))
        forward_flops = flops.flops(meter.forward_shapes, flops.measure(loaded, encoded, once, False))
        cost = taught + Cost(
            optimizer_steps=-(-meter.examples // config.batch_size) if stopped else keeper.total,
            examples=meter.examples,
            tokens=meter.tokens,
            train_flops=train_flops,
            forward_examples=meter.forward_examples,
            forward_flops=forward_flops,
            seconds=resume.seconds_before,
        )
        tuned = Tuned(tuple(keeper.curve), keeper.chosen, cost, stopped)
        if stopped:
            return tuned
        if config.gradient_checkpointing:
            net.gradient_checkpointing_disable()
        if config.method == "dora":
            fold(net)
        elif config.adapter is not None:
            (out / FOLDER).mkdir()
            write_adapter(take_out(loaded, heads, under or model), out / FOLDER)
        kind.save(loaded, out)
    pass_on([model], out, _hashes([*train_rows, *validation_rows], kind.target))
    if resume.micro_batch is not None:
        write_record(out, micro_batch=resume.micro_batch)
    write_record(out, chosen_step=tuned.chosen_step, curve=[asdict(point) for point in tuned.curve])
    return tuned


def prepare(
    model: Path,
    rows: Rows,
    task: Spec,
    config: TuneConfig,
    seed: int,
    examples: int,
    under: Path | None = None,
    answers: np.ndarray | None = None,
) -> tuple[Loaded, Lesson, list[str]]:
    """The model with what learns set free, what it learns, and what `take_out` needs where an adapter is trained.

    All chance is seeded here. Raises UsageError or FindingsError for settings that model or rows don't allow.
    """
    from transformers import set_seed

    kind, heads = kind_of(task), list[str]()
    set_seed(seed % 2**32)
    loaded = kind.load(under or model, task, config.dropout)
    if under is not None:
        loaded = replace(loaded, heads=read_heads(model))  # what the adapter has learned already
    net = loaded.net.to(torch_device())
    encoded = kind.encode(loaded, rows, config.max_length)
    order = training_order(encoded.lengths, examples, config.batch_size, seed, config.length_grouping)
    refuse_errors(class_weight_findings(config, specs_of(task)) + mixup_findings(config, encoded.batch([0])))
    weights = class_weights(config.class_weights, task.labels, rows.target) if config.class_weights else None
    if config.method in PARTS:
        free_parts(loaded, config)
    elif config.adapter is not None:
        heads = attach(loaded, config.adapter, model / FOLDER if under else None, config.method == "dora")
    frozen = kind.frozen(task)
    for name, parameter in net.named_parameters():
        if name.startswith(frozen):
            parameter.requires_grad_(False)
    if config.gradient_checkpointing:
        _checkpoint_gradients(net, str(model))
    return loaded, Lesson(encoded, rows.target, order, weights, answers), heads


def _checkpoint_gradients(net: Any, where: str) -> None:
    """Let the backward pass compute activations again instead of keeping them; UsageError where a network can't."""
    if not getattr(net, "supports_gradient_checkpointing", False):
        raise UsageError(f"{where}: its class can't compute activations again; leave gradient_checkpointing out")
    net.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def _keep_last_good(model: Loaded, resume: Resume, folder: Path | None) -> str:
    """Write the last state that was found good as a model, where there is one and a place for it; in words."""
    adapter = any(".lora_" in name for name, _ in model.net.named_parameters())
    step = resume.put_last_good() if folder and not adapter else 0
    if folder is None or not step:
        return "no state after the start was kept"
    out = folder / LAST_GOOD
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    kind_of(model.spec).save(model, out)
    return f"the state after step {step}, the last good one, is in {out}"


def _hashes(files: Sequence[Path], target: Sequence[str]) -> list[str]:
    """Hashes of the rows of splits."""
    tables = (pd.read_parquet(f / "rows.parquet" if f.is_dir() else f) for f in files)
    return [h for table in tables for h in row_hashes(content_of(table, target))]
