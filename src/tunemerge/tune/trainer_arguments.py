"""What transformers' Trainer is told: our optimizer, schedule and order; no logging, saving or scoring of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunemerge.tune.config import TuneConfig
from tunemerge.tune.trackers import reporting


def arguments(config: TuneConfig, seed: int, device: str, scratch: Path, micro: int, share: int) -> Any:
    """TrainingArguments of a process that computes `share` rows of every batch, `micro` of them (a divisor) at once."""
    from transformers import TrainingArguments

    chosen = TrainingArguments(
        output_dir=str(scratch),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=share // micro,
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
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        log_level="error",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        **reporting(),
    )
    # Autocast is ours, so that training and evaluation share it; one GPU, or their number would multiply the batch.
    chosen.mixed_precision = "no"
    if chosen.n_gpu > 1:
        chosen._n_gpu = 1
    return chosen
