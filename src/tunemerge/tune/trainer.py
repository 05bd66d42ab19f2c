"""transformers' Trainer, told exactly what to do: these examples in this order; it logs, saves and scores nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np

from tunemerge.tasks.meter import Meter
from tunemerge.tasks.task import Loaded, kind_of
from tunemerge.tune.config import TuneConfig
from tunemerge.tune.diverged import diverged
from tunemerge.tune.micro_batch import rows_that_fit
from tunemerge.tune.mixup import blend
from tunemerge.tune.objective import Lesson, losses
from tunemerge.tune.optimizer import Start, parameter_groups
from tunemerge.tune.resume import Resume
from tunemerge.tune.schedule import learning_rate_factor
from tunemerge.tune.sharpness import again_uphill
from tunemerge.tune.together import Together
from tunemerge.tune.trainer_arguments import arguments
from tunemerge.tune.training_loss import TrainingLoss

# Up to this length plain attention trains faster on a CPU than the fused one (without dropout 1.7 times: the fused
# kernel's backward pass in bfloat16 is slow); beyond it the fused one needs far less memory.
_EAGER_LENGTH = 128
_TARGET, _ANSWERS = "tunemerge_target", "tunemerge_answers"


def train(
    model: Loaded,
    lesson: Lesson,
    config: TuneConfig,
    seed: int,
    device: str,
    scratch: Path,
    resume: Resume,
    after_step: Callable[[int, TrainingLoss], None],
    together: Together,
    rate_factor: Callable[[int], float] | None = None,
) -> None:
    """Train `model` in place, one pass over `lesson.order`, in optimizer steps of config.batch_size examples.

    The body is kept in evaluation mode if config.method is "head". `after_step(step, loss)` is called after each
    optimizer step (from 1) that `resume` has not done before. Of every batch this process computes its share, if there
    are several `together`. `scratch` is a folder for the Trainer. The learning rate of a step (from 0) is
    config.learning_rate times `rate_factor(step)`, without it that of the config's schedule. DivergedError if the loss
    is not finite.
    """
    import torch
    from transformers import PrinterCallback, TrainerCallback

    total = -(-len(lesson.order) // config.batch_size)

    def planned(step: int) -> float:
        return learning_rate_factor(step, total, config.warmup, config.schedule)

    factor = rate_factor or planned
    start = Start(model, config.l2_sp) if config.l2_sp else None
    done = resume.begin()

    class Steps(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if together.size > 1:
                torch.manual_seed(seed + together.place)  # masks of its own
            resume.started(trainer.optimizer)
            # The Trainer is given the steps that are left, and counts them from the ones done.
            state.global_step = trainer._globalstep_last_logged = done
            state.max_steps += done

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            resume.before_first_step()

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if start is not None:
                start.pull(trainer.optimizer)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            after_step(state.global_step, resume.loss)
            resume.after_step(state.global_step)

    own, share = together.own_rows(lesson.order, config.batch_size), config.batch_size // together.size
    with _prepared(model.net, lesson, device):
        if config.micro_batch == "auto" and resume.micro_batch is None:
            resume.micro_batch = _probed(model, lesson, config, own, share, resume.meter)
        micro = resume.micro_batch or gcd(config.planned_pass, share)
        trainer = _trainer_class(config, lesson, model, seed, resume, done, together, factor)(
            model=model.net,
            args=arguments(config, seed, device, scratch, micro, share),
            train_dataset=own[done * share :].tolist(),
            data_collator=lambda rows: _collate(lesson, np.asarray(rows)),
            callbacks=[Steps()],
        )
        # The loss below divides by the examples of the whole optimizer step: tell the Trainer to count them.
        trainer.model_accepts_loss_kwargs = trainer.loss_is_scaled_for_ga = True
        trainer.remove_callback(PrinterCallback)
        trainer.train()


def _probed(model: Loaded, lesson: Lesson, config: TuneConfig, own: np.ndarray, share: int, meter: Meter) -> int:
    """The rows of a pass with `micro_batch: auto`; nothing of the probe is metered."""
    place = next(model.net.parameters()).device

    def attempt(rows: np.ndarray) -> None:
        batch = {name: tensor.to(place) for name, tensor in _collate(lesson, rows).items()}
        target, answers = batch.pop(_TARGET), batch.pop(_ANSWERS, None)
        del batch["labels"]
        losses(model, lesson, config, batch, target, None, answers)[1].sum().backward()

    before = meter.state()
    found = rows_that_fit(model.net, config, own, lesson.encoded.lengths, share, attempt)
    meter.set_state(before)
    return found


def _trainer_class(
    config: TuneConfig,
    lesson: Lesson,
    loaded: Loaded,
    seed: int,
    resume: Resume,
    done: int,
    together: Together,
    factor: Callable[[int], float],
) -> Any:
    import torch
    from transformers import Trainer

    so_far = resume.loss
    total = -(-len(lesson.order) // config.batch_size)

    body = kind_of(loaded.spec).body(loaded) if config.method == "head" else None

    class FixedOrderTrainer(Trainer):
        def compute_loss(
            self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            """Summed over a micro-batch, divided by the examples of its optimizer step: as if it were one batch."""
            if body is not None:
                body.eval()
            target, answers = inputs.pop(_TARGET), inputs.pop(_ANSWERS, None)
            del inputs["labels"]
            mixed = None
            if config.mixup:
                mixed = blend(config.mixup, len(target), seed, self.state.global_step, self._part)
            told, learned = losses(loaded, lesson, config, inputs, target, mixed, answers)
            if resume.meter.again:
                return learned.sum() / num_items_in_batch
            so_far.add(told.detach())
            if not np.isfinite(so_far.last):
                step = self.state.global_step
                rows = lesson.order[step * config.batch_size : (step + 1) * config.batch_size]
                what, rate = f"the training loss became {so_far.last}", config.learning_rate * factor(step)
                raise diverged(what, step + 1, total, rate, config.learning_rate, rows.tolist())
            return learned.sum() / num_items_in_batch

        def get_batch_samples(self, *args: Any) -> Any:
            items: Any
            self._batches, items = super().get_batch_samples(*args)
            self._part = -1
            return self._batches, items if together.size == 1 else together.total([float(items)])[0]

        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            self._part += 1
            loss = super().training_step(model, inputs, num_items_in_batch)
            if self._part == len(self._batches) - 1:
                together.sum_gradients(model)
                if config.sam:
                    self._part, resume.meter.again = -1, True
                    self._model, self._items = model, num_items_in_batch
                    again_uphill(model, config.sam, self._batches, self._backward)
                    resume.meter.again = False
                    together.sum_gradients(model)
            return loss

        def _backward(self, batch: Any) -> None:
            self._part += 1
            super().training_step(self._model, batch, self._items)

        def create_optimizer(self, model: Any = None) -> Any:
            if config.layer_decay == 1 and not config.l2_sp:
                return super().create_optimizer(model)
            kind_of_optimizer, settings = self.get_optimizer_cls_and_kwargs(self.args, loaded.net)
            decayed = self.get_decay_parameter_names(loaded.net)
            self.optimizer = kind_of_optimizer(parameter_groups(loaded, config, decayed), **settings)
            return self.optimizer

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                self.optimizer,  # type: ignore[arg-type]
                lambda step: factor(min(done + step, total - 1)),  # asked once more after the last step
            )
            return self.lr_scheduler

        def floating_point_ops(self, inputs: dict[str, Any]) -> int:
            """Not asked for: the ledger counts by itself, and the Trainer's count walks over all modules each step."""
            return 0

    return FixedOrderTrainer


def _collate(lesson: Lesson, rows: np.ndarray) -> dict[str, Any]:
    import torch

    batch = {name: torch.from_numpy(array) for name, array in lesson.encoded.batch(rows).items()}
    target = lesson.target[rows]
    answer = torch.from_numpy(target.astype(np.int64) if target.dtype.kind == "i" else target)
    if lesson.answers is not None:
        batch[_ANSWERS] = torch.from_numpy(lesson.answers[rows])
    # The Trainer counts the examples of an optimizer step in what is called labels.
    return {**batch, _TARGET: answer, "labels": torch.zeros(len(rows), dtype=torch.int64)}


@contextmanager
def _prepared(model: Any, lesson: Lesson, device: str) -> Iterator[None]:
    """The faster attention for training; afterwards the config is what it was (the Trainer switches use_cache off)."""
    if not hasattr(model, "set_attn_implementation"):
        yield
        return
    use_cache, attention = getattr(model.config, "use_cache", None), model.config._attn_implementation
    if device == "cpu" and lesson.encoded.lengths.max() <= _EAGER_LENGTH:
        model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(attention)
        if use_cache is None:
            del model.config.use_cache
        else:
            model.config.use_cache = use_cache
