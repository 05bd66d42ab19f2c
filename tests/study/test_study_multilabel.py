"""Several labels a text, through the whole pipeline."""

import pandas as pd

from corpus import sentences
from small import SPLITS, run, small_study


def test_a_study_of_texts_with_several_labels(tmp_path, tiny_bert):
    for number, name in enumerate("ab"):
        texts, labels = sentences(200, number)
        pairs = zip(texts, labels, strict=True)
        topics = [f"{label}|long" if len(text.split()) > 10 else label for text, label in pairs]
        pd.DataFrame({"text": texts, "topics": topics}).to_csv(tmp_path / f"topics_{name}.csv", index=False)
    task = {"kind": "text-multilabel", "label": "topics", "separator": "|", "splits": SPLITS}
    results = run(
        small_study(
            tmp_path,
            tiny_bert,
            tasks={n: {**task, "data": f"topics_{n}.csv"} for n in "ab"},
            strategies=["tune_then_merge", "joint", "ensemble"],
            methods=["linear"],
            seeds=1,
            candidates=1,
            budget={"examples": 160},
            pool_budget={"epochs": 8},
        )
    )
    assert results.metric == "micro_f1"
    scores = {arm.name.split("/")[0]: arm.test.value for arm in results.arms}
    assert {"tune_then_merge", "joint", "ensemble", "tfidf_linear"} <= set(scores)
    assert all(0 < score <= 1 for score in scores.values()) and scores["joint"] > 0.5
    kept = {"micro_f1", "label_f1", "exact_labels", "label_auroc", "label_log_loss"}
    assert all(kept <= set(task.metrics) for arm in results.arms for task in arm.tasks.values())
