"""Flips: the test rows that one arm answers rightly and another wrongly, example by example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from tunemerge.errors import UsageError
from tunemerge.registry import nearest

COLUMNS = ["task", "row", "unit", "target", "a", "b", "gained", "lost", "seeds", "lead", "text"]


def flips(
    predictions: pd.DataFrame,
    labels: Mapping[str, Sequence[str]],
    a: str,
    b: str,
    task: str | None = None,
    texts: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """A line for every test row on which arm `a` is right and arm `b` wrong, or the other way round, in any seed.

    `predictions` is a run's predictions.parquet, `labels` the classes of each task, `texts` has columns task, row and
    text. Columns of the answer: task; row (number of the data row, 1 is the first); unit; target; a, b (the label that
    each gave most often in the seeds where the row flips); gained and lost (in how many seeds a is right and b wrong,
    and the reverse), of `seeds`; lead (by how much a's probability of the target is above b's, mean over seeds); text.
    What `a` gains in most seeds comes
    first, what it loses in most seeds last. With folds a row counts where its fold holds it out. Tasks that predict
    values have no flips. Raises UsageError for an unknown arm or task, or a `task` that predicts values.
    """
    arms, tasks = list(dict.fromkeys(predictions["arm"])), list(dict.fromkeys(predictions["task"]))
    for name in (a, b):
        if name not in arms:
            raise UsageError(f"unknown arm {name!r}{nearest(name, arms)}")
    if task is not None and task not in tasks:
        raise UsageError(f"unknown task {task!r}{nearest(task, tasks)}")
    if task is not None and task not in labels:
        raise UsageError(f"{task} predicts values: an answer is neither right nor wrong, so none flips")
    parts = []
    for name in [t for t in tasks if t in labels] if task is None else [task]:
        own = predictions[predictions["task"] == name]
        split = "held_out" if (own["split"] == "held_out").any() else "test"
        tested = own[own["split"] == split]
        both = [_answers(tested[tested["arm"] == arm], labels[name]) for arm in (a, b)]
        if all(len(answers) for answers in both):
            parts.append(_of_task(name, *both))
    found = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS[:-1])
    found = found.sort_values("lead", key=lambda s: -s, kind="stable")
    found = found.iloc[np.argsort(-(found["gained"] - found["lost"]).to_numpy(), kind="stable")].reset_index(drop=True)
    if texts is None:
        return found.assign(text=None)
    found = found.merge(texts[["task", "row", "text"]], how="left", on=["task", "row"])
    return found.assign(text=found["text"].astype(object).where(found["text"].notna(), None))


def _answers(rows: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """Of one arm and task: seed, row, unit, target, answer, and the probability of the target."""
    logits = rows[[f"logit_{i}" for i in range(len(labels))]].to_numpy(np.float64)
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True)) if len(rows) else logits
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    target = rows["target"].to_numpy(int)
    names = np.array(labels, object)
    return pd.DataFrame(
        {
            "seed": rows["seed"].to_numpy(), "row": rows["row"].to_numpy(), "unit": rows["unit"].to_numpy(),
            "target": names[target], "answer": names[logits.argmax(axis=1)] if len(rows) else names[target],
            "p": probabilities[np.arange(len(rows)), target],
        }
    )  # fmt: skip


def _of_task(task: str, a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    both = a.merge(b, on=["seed", "row"], suffixes=("_a", "_b"), validate="one_to_one")
    right_a, right_b = both["answer_a"] == both["target_a"], both["answer_b"] == both["target_a"]
    both = both.assign(gained=right_a & ~right_b, lost=right_b & ~right_a, lead=both["p_a"] - both["p_b"])
    by_row = both.groupby("row", sort=True)
    where_it_flips = both[both["gained"] | both["lost"]].groupby("row", sort=True)
    found = pd.DataFrame(
        {
            "task": task, "row": by_row["row"].first(), "unit": by_row["unit_a"].first(),
            "target": by_row["target_a"].first(),
            "a": where_it_flips["answer_a"].agg(_most), "b": where_it_flips["answer_b"].agg(_most),
            "gained": by_row["gained"].sum(), "lost": by_row["lost"].sum(), "seeds": by_row["seed"].size(),
            "lead": by_row["lead"].mean(),
        }
    )  # fmt: skip
    return found[(found["gained"] > 0) | (found["lost"] > 0)]


def _most(answers: pd.Series) -> str:
    return str(answers.value_counts(sort=False).idxmax())
