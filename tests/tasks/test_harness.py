"""Tasks of the evaluation harness by name: documents as rows, scores as the harness has them, learned like answers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from small import TUNING, run
from tunemerge.evaluate.single import evaluate
from tunemerge.findings import FindingsError
from tunemerge.study.study import Study
from tunemerge.tasks.files import rows_of_file
from tunemerge.tasks.task import TASKS
from tunemerge.tune.single import tune

KIND = TASKS["lm-eval"]
CHOICES = ["good", "bad"]


@pytest.fixture
def own_tasks(tmp_path: Path) -> dict[str, Any]:
    """A folder of two tasks over 24 local documents: one chooses, one writes."""
    pytest.importorskip("lm_eval")
    folder = tmp_path / "tasks"
    folder.mkdir()
    documents = [
        {"q": f"{a} {b} {c}", "label": int(a == "a"), "answer": CHOICES[a == "a"]}
        for a in ("the", "a") for b in ("film", "plot", "sound") for c in ("one", "two", "six", "ten")
    ]  # fmt: skip
    (folder / "docs.jsonl").write_text("\n".join(map(json.dumps, documents)))
    common = {
        "dataset_path": "json", "test_split": "test", "doc_to_text": "{{q}}:",
        "dataset_kwargs": {"data_files": {"test": str(folder / "docs.jsonl")}, "cache_dir": str(tmp_path / "cache")},
    }  # fmt: skip
    choose = {
        "task": "mood_choice", "output_type": "multiple_choice", "doc_to_target": "label", "doc_to_choice": CHOICES,
        "metric_list": [{"metric": m, "aggregation": "mean", "higher_is_better": True} for m in ("acc", "acc_norm")],
    }  # fmt: skip
    write = {
        "task": "mood_written", "output_type": "generate_until", "doc_to_target": "answer",
        "target_delimiter": "",
        "generation_kwargs": {"until": ["\n"], "do_sample": False, "max_gen_toks": 30},
        "metric_list": [
            {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True},
            {"metric": "bleu", "aggregation": "bleu", "higher_is_better": True},
        ],
    }  # fmt: skip
    for task in (choose, write):
        (folder / f"{task['task']}.yaml").write_text(json.dumps({**common, **task}))
    return {"include_path": str(folder)}


def rows_of(name: str, **options: Any) -> pd.DataFrame:
    return rows_of_file(f"lm-eval:{name}", KIND, KIND.Options(**options))


def test_examples_are_no_rows(own_tasks: dict[str, Any]) -> None:
    rows = rows_of("mood_choice", num_fewshot=3, **own_tasks)
    shots = json.loads(rows["shots"][0])
    asked = {json.loads(doc)["q"] for doc in rows["document"]}
    assert len(shots) == 3 and len(asked) == 21 and not asked & {shot["q"] for shot in shots}
    shown = "\n\n".join(f"{shot['q']}: {shot['answer']}" for shot in shots)
    assert rows["prompt"][0] == f"{shown}\n\n{json.loads(rows['document'][0])['q']}:"
    assert set(rows["completion"]) == {" good", " bad"}


@pytest.mark.parametrize("name", ["mood_choice", "mood_written"])
def test_scores_are_the_harness_s(name: str, own_tasks: dict[str, Any], tiny_gpt: Path, tmp_path: Path) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    asked = {"task": "lm-eval", **own_tasks, "gen_kwargs": {"max_gen_toks": 8}}
    tune(tiny_gpt, f"lm-eval:{name}", tmp_path / "out", epochs=12, learning_rate=1e-2, batch_size=8,
         precision="float32", **asked)  # fmt: skip
    found = evaluate(tmp_path / "out", f"lm-eval:{name}", predictions=tmp_path / "p.parquet", **asked).metrics
    lm = HFLM(pretrained=str(tmp_path / "out"), device="cpu", max_length=64, batch_size=16)
    theirs = simple_evaluate(
        lm, tasks=[name], task_manager=TaskManager(**own_tasks), gen_kwargs={"max_gen_toks": 8}, bootstrap_iters=0
    )["results"][name]  # fmt: skip
    score = theirs.get("acc,none", theirs.get("exact_match,none"))
    assert found["lm_eval"].value == pytest.approx(score) and score > 0.6
    assert pd.read_parquet(tmp_path / "p.parquet")["output_3"].mean() == pytest.approx(score)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("mood_choise", {}, "did you mean 'mood_choice'"),
        ("mood_written", {"score": "bleu"}, "no mean over documents"),
        ("mood_written", {"score": "f1"}, "has no metric 'f1'"),
        ("mood_choice", {"num_fewshot": 30}, "has 24 documents to take them from"),
    ],
)
def test_what_cannot_be_used_is_said(name: str, options: Any, said: str, own_tasks: dict[str, Any]) -> None:
    with pytest.raises(FindingsError, match=said):
        rows_of(name, **own_tasks, **options)


def test_the_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(FindingsError, match=r"tunemerge\[lm-eval\]"):
        rows_of("mood_choice")


def test_a_study_of_a_task(own_tasks: dict[str, Any], tiny_gpt: Path, tmp_path: Path) -> None:
    splits = {"test": 8, "validation": 6, "adapt": 8}
    config = {
        "name": "harness", "task": "lm-eval", "base": str(tiny_gpt), "seeds": 1, "candidates": 2,
        "tasks": {"mood": {"data": "lm-eval:mood_choice", "splits": splits, "num_fewshot": 1, "include_path": "tasks"}},
        "pool": {"one": str(tiny_gpt)}, "strategies": ["joint"], "methods": ["linear"],
        "budget": {"examples": 16}, "tuning": TUNING,
    }  # fmt: skip
    study = Study.from_dict(config, tmp_path, tmp_path / "work")
    assert any(f.code == "supervised" and f.message.endswith("<|end|>⟧") for f in study.check())
    results = run(study)
    assert results.metric == "lm_eval"
    arm = next(arm for arm in results.arms if arm.strategy == "joint")
    assert set(arm.tasks["mood"].metrics) == {"lm_eval", "lm_eval_nll"}
