"""transformers' Trainer, told exactly what to do: these examples in this order; it logs, saves and scores nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tunemerge.errors import TunemergeError
from tunemerge.tasks.batching import Encoded
from tunemerge.tasks.precision import autocast
from tunemerge.tune.config import TuneConfig
from tunemerge.tune.schedule import learning_rate_factor


class TrainingLoss:
    """Mean training loss an example (without label smoothing) since it was last read."""

    def __init__(self) -> None:
        self._sum, self._examples = 0.0, 0
        self.last = float("nan")

    def add(self, losses: Any) -> None:
        total = float(losses.sum())
        self._sum, self._examples, self.last = self._sum + total, self._examples + len(losses), total / len(losses)

    def take(self) -> float:
        mean = self._sum / max(1, self._examples)
        self._sum, self._examples = 0.0, 0
        return mean


def train(
    model: Any,
    body: Any,
    encoded: Encoded,
    target: np.ndarray,
    order: np.ndarray,
    config: TuneConfig,
    seed: int,
    device: str,
    scratch: Path,
    after_step: Callable[[int, TrainingLoss], None],
) -> None:
    """Train `model` in place on the rows `order`, in this order, in steps of config.batch_size.

    `body` is frozen and in evaluation mode if config.method is "head". `after_step(step, loss)` is called after each
    optimizer step (from 1). `scratch` is a folder for the Trainer. TunemergeError if the loss is not finite.
    """
    import torch
    from torch.nn.functional import cross_entropy
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    total = -(-len(order) // config.batch_size)
    micro = config.micro_batch or config.batch_size
    loss_so_far = TrainingLoss()

    def collate(rows: list[int]) -> dict[str, Any]:
        picked = np.asarray(rows)
        batch = {name: torch.from_numpy(a) for name, a in encoded.batch(picked).items()}
        return {**batch, "labels": torch.from_numpy(target[picked].astype(np.int64))}

    class FixedOrderTrainer(Trainer):
        """The loss is divided by the examples of the whole optimizer step, so accumulation changes nothing."""

        def compute_loss(
            self,
            model: Any,
            inputs: dict[str, Any],
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any:
            if config.method == "head":
                body.eval()
            labels = inputs.pop("labels")
            with autocast(config.precision, device):
                logits = model(**inputs).logits
            losses = cross_entropy(logits.float(), labels, reduction="none")
            loss_so_far.add(losses.detach())
            if not np.isfinite(loss_so_far.last):
                step = self.state.global_step
                rate = config.learning_rate * learning_rate_factor(step, total, config.warmup, config.schedule)
                raise TunemergeError(
                    f"the training loss became {loss_so_far.last} in step {step + 1} of {total} at learning rate "
                    f"{rate:.3g}: lower learning_rate ({config.learning_rate:g}) or max_grad_norm, or raise warmup"
                )
            if config.label_smoothing:
                losses = cross_entropy(logits.float(), labels, reduction="none", label_smoothing=config.label_smoothing)
            return losses.sum() / num_items_in_batch

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            def factor(step: int) -> float:
                # Asked once more after the last step, where nothing is left to do.
                return learning_rate_factor(min(step, total - 1), total, config.warmup, config.schedule)

            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)  # type: ignore[arg-type]
            return self.lr_scheduler

        def floating_point_ops(self, inputs: dict[str, Any]) -> int:
            return 0

    class AfterStep(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            after_step(state.global_step, loss_so_far)

    arguments = TrainingArguments(
        output_dir=str(scratch),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=config.batch_size // micro,
        num_train_epochs=1,
        train_sampling_strategy="sequential",
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        optim="adamw_torch_fused",
        seed=seed % 2**32,
        use_cpu=device == "cpu",
        eval_strategy="no",
        save_strategy="no",
        logging_strategy="no",
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
    # Autocast is ours, so that training and evaluation share it; one GPU, or their number would multiply the batch.
    arguments.mixed_precision = "no"
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    use_cache = getattr(model.config, "use_cache", None)
    trainer = FixedOrderTrainer(
        model=model,
        args=arguments,
        train_dataset=[int(row) for row in order],
        data_collator=collate,
        callbacks=[AfterStep()],
    )
    trainer.model_accepts_loss_kwargs = True
    trainer.loss_is_scaled_for_ga = True
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    # The Trainer switches the cache of generating models off and leaves it so in the config.
    if use_cache is None:
        del model.config.use_cache
    else:
        model.config.use_cache = use_cache
