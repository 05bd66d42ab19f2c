"""The steps "score" and "select" of the graph: one of several models, by validation. A pointer, made of hard links."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np

from tunemerge.evaluate.predict import FILE, read_predictions
from tunemerge.graph.cost import Cost
from tunemerge.graph.operation import Job, operation
from tunemerge.stats.metrics import METRICS, Metric, score

SCORE_FILE = "score.json"


@operation("score", version=1)
def score_one(job: Job) -> Cost:
    """Inputs predictions (one set); params metric. Writes their score, higher is better, and nothing of any row."""
    value = _score(job.one("predictions"), METRICS[job.params["metric"]])
    (job.out / SCORE_FILE).write_text(json.dumps({"score": value}))
    return Cost()


def _score(folder: Path, metric: Metric) -> float:
    p = read_predictions(folder / FILE)
    return score(metric, p.target, p.logits, p.weight)


@operation("select", version=1, uses=lambda params: METRICS.code(params["metric"]))
def select(job: Job) -> Cost:
    """Inputs models, and predictions or their scores (for each model its validation sets, in the order of the models);
    params metric.

    Writes the files of the model with the best mean score (the first where several share it), and `choice.json`.
    """
    metric, models = METRICS[job.params["metric"]], job.inputs["models"]
    values = [_score(folder, metric) for folder in job.inputs.get("predictions", ())]
    values += [json.loads((folder / SCORE_FILE).read_text())["score"] for folder in job.inputs.get("scores", ())]
    means = np.reshape(values, (len(models), -1)).mean(axis=1)
    chosen = int(np.argmax(means))
    for file in models[chosen].iterdir():
        if file.name != "manifest.json":
            _link(file, job.out / file.name)
    trials = [{"parameters": {"model": i}, "score": float(s)} for i, s in enumerate(means)]
    (job.out / "choice.json").write_text(json.dumps({"trials": trials, "chosen": chosen, "parameters": {}}))
    return Cost(trials=len(models))


def _link(file: Path, target: Path) -> None:
    """A second name for the same bytes; a copy on disks that can't."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copy2(file, target)
