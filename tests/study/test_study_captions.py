"""Tasks with different labels, answered by one CLIP that has no heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import CLIPModel

import pictures
import tunemerge
from small import SPLITS, TUNING, run
from tunemerge.checkpoint.adapter import open_adapter
from tunemerge.checkpoint.model import open_checkpoint
from tunemerge.checkpoint.reader import read_tensor
from tunemerge.study.export import export_arm
from tunemerge.study.study import Study

LABELS = {"bars": {"0": "lying", "1": "standing"}, "blocks": {"0": "flat", "1": "upright"}}


def captions_study(folder: Path, **changes: Any) -> Study:
    pictures.tiny_clip(folder / "base", "a photo of lying standing flat upright")
    for number, name in enumerate(LABELS):
        pictures.write_npz(folder / f"{name}.npz", 200, number)
    tasks = {n: {"data": f"{n}.npz", "labels": labels, "splits": SPLITS} for n, labels in LABELS.items()}
    values = {
        "name": "captions",
        "task": "image-text",
        "base": str(folder / "base"),
        "tasks": {n: {**task, "caption": "a photo of {label}"} for n, task in tasks.items()},
        "strategies": ["merge_then_tune", "tune_then_merge", "expert"],
        "methods": ["linear"],
        "candidates": 1,
        "budget": {"examples": 160},
        "pool_budget": {"examples": 240},
        "seeds": 1,
        "tuning": TUNING,
        **changes,
    }
    return Study.from_dict(values, folder, folder / "work")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Any:
    study = captions_study(tmp_path_factory.mktemp("captions"))
    return study, run(study)


def model_of(study: Study, results: Any, arm: str) -> Path:
    (found,) = [a for a in results.arms if a.name == arm]
    ((key,),) = {tuple(by_seed[0]) for by_seed in found.models.values()}
    return study.store.get(key).path


def test_one_model_answers_both_tasks(finished: Any) -> None:
    study, results = finished
    said = [f for f in study.check() if f.code == "several-label-sets"]
    assert [f.message for f in said] == [
        "2 sets of labels, one model without heads: bars (2 labels); blocks (2 labels)"
    ]
    scores = {arm.name: {t: s.score.value for t, s in arm.tasks.items()} for arm in results.arms}
    # What is tuned for one task's captions alone leaves the other's, and both are learned by one model.
    assert min(scores["merge_then_tune/linear"].values()) > 0.8 and scores["expert/bars"]["bars"] > 0.8
    assert scores["expert/bars"]["blocks"] < 0.6


def test_a_merge_is_the_mean_of_all_tensors(finished: Any) -> None:
    study, results = finished
    merged = model_of(study, results, "tune_then_merge/linear")
    assert not (merged / "tunemerge_heads.json").exists()
    step = next(s for s in study.plan().graph.steps if s.op == "merge" and s.key == merged.name)
    parts = [study.store.get(n.key).path for n in step.inputs["models"]]
    for name in ("logit_scale", "visual_projection.weight", "text_model.embeddings.token_embedding.weight"):
        one, other, mean = (read_tensor(open_checkpoint(path), name) for path in (*parts, merged))
        np.testing.assert_allclose(mean, (one + other) / 2, atol=1e-6)
        assert (one != other).any()


def test_what_is_exported_is_a_plain_clip(finished: Any, tmp_path: Path) -> None:
    study, results = finished
    export_arm(results, study.store, tmp_path / "out", "tune_then_merge/linear", task="blocks")
    plain = CLIPModel.from_pretrained(tmp_path / "out")
    assert plain.config.projection_dim == 16
    assert {"tokenizer.json", "preprocessor_config.json"} <= {f.name for f in (tmp_path / "out").iterdir()}
    data = study.folder / "blocks.npz"
    asked = {"labels": LABELS["blocks"], "caption": "a photo of {label}"}
    found = tunemerge.evaluate(tmp_path / "out", data, task="image-text", **asked)
    assert found.rows == 200 and found.metrics["accuracy"].value > 0.5


def test_adapters_on_both_towers_are_merged(tmp_path: Path) -> None:
    changes = {"tuning": {**TUNING, "method": "lora"}, "adapters": "keep", "methods": ["linear"]}
    study = captions_study(
        tmp_path, strategies=["tune_then_merge", "joint"], budget={"steps": 2}, pool_budget={"steps": 1}, **changes
    )
    results = run(study)
    adapter = open_adapter(model_of(study, results, "tune_then_merge/linear") / "adapter")
    assert {name.split(".")[0] for name in adapter.products} == {"text_model", "vision_model"}
