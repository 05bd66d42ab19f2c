"""The steps "score", "pick" and "select" of the graph: one of several models, by validation.

Picking and selecting are two steps, so that what is selected holds the bytes of the model and nothing else: who reads
it sees whether the choice fell otherwise, and nothing of what it was made among.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isfinite
from pathlib import Path

from tunemerge.errors import TunemergeError
from tunemerge.evaluate.predict import FILE as PREDICTIONS
from tunemerge.evaluate.predict import read_predictions
from tunemerge.graph.cost import Cost
from tunemerge.graph.operation import Job, operation
from tunemerge.search.operation import FILE
from tunemerge.stats.metrics import METRICS, score
from tunemerge.store.atomic import link

SCORE_FILE = "score.json"

Score = tuple[float, float]  # of the metric, and minus the log loss


@operation("score", version=2, uses=lambda params: METRICS.code(params["metric"]))
def score_one(job: Job) -> Cost:
    """Inputs predictions (one set); params metric. Writes their score, higher is better, and nothing of any row."""
    value, loss = _of_predictions(job.one("predictions"), job.params["metric"])
    (job.out / SCORE_FILE).write_text(json.dumps({"score": value, "minus_log_loss": loss}))
    return Cost()


@operation("pick", version=1, uses=lambda params: METRICS.code(params["metric"]))
def pick(job: Job) -> Cost:
    """Params candidates (what each model is called, a mapping), metric. Inputs predictions or their scores (for each
    model its validation sets, in the order of the models), or searches (for each, a merge, that of its coefficients).

    Writes `choice.json`: the model with the best mean score, of equals the one with the lowest log loss (where there
    are probabilities and predictions to have it from), then the first.
    """
    candidates, searches = job.params["candidates"], job.inputs.get("searches", ())
    values = [_of_search(folder) for folder in searches]
    values += [_of_score(folder) for folder in job.inputs.get("scores", ())]
    values += [_of_predictions(folder, job.params["metric"]) for folder in job.inputs.get("predictions", ())]
    size = len(values) // len(candidates)
    scores = [_mean(values[i : i + size]) for i in range(0, len(values), size)]
    for candidate, (value, _) in zip(candidates, scores, strict=True):
        if not isfinite(value):
            raise TunemergeError(
                f"{job.params['metric']} of {candidate} is {value} on validation: a split lacks what it needs "
                "(two classes, for one)"
            )
    chosen = scores.index(max(scores))
    trials = [{"parameters": c, "score": s} for c, (s, _) in zip(candidates, scores, strict=True)]
    choice = {"trials": trials, "chosen": chosen, "parameters": candidates[chosen]}
    (job.out / FILE).write_text(json.dumps(choice, indent=1, allow_nan=False) + "\n")
    return Cost(trials=0 if searches else len(candidates))  # what a search tried is in its own cost


@operation("select", version=2)
def select(job: Job) -> Cost:
    """Inputs models, choice (a "pick"). A pointer: links to the files of the model that was picked."""
    choice = json.loads((job.one("choice") / FILE).read_text(encoding="utf-8"))
    model = job.inputs["models"][choice["chosen"]]
    for file in model.rglob("*"):
        if file.is_file() and file != model / "manifest.json":
            target = job.out / file.relative_to(model)
            target.parent.mkdir(exist_ok=True)
            link(file, target)
    return Cost()


def _of_search(folder: Path) -> Score:
    choice = json.loads((folder / FILE).read_text(encoding="utf-8"))
    return float(choice["trials"][choice["chosen"]]["score"]), 0.0


def _of_score(folder: Path) -> Score:
    found = json.loads((folder / SCORE_FILE).read_text(encoding="utf-8"))
    return found["score"], found["minus_log_loss"]


def _of_predictions(folder: Path, metric: str) -> Score:
    p = read_predictions(folder / PREDICTIONS)
    loss = score(METRICS["log_loss"], p.target, p.outputs, p.weight) if p.target.dtype.kind == "i" else 0.0
    return score(METRICS[metric], p.target, p.outputs, p.weight), loss


def _mean(scores: Sequence[Score]) -> Score:
    return sum(s for s, _ in scores) / len(scores), sum(loss for _, loss in scores) / len(scores)
