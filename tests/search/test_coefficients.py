from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from corpus import SPEC, RowsFactory
from tunemerge.errors import TunemergeError, UsageError
from tunemerge.evaluate.predict import predict
from tunemerge.graph.operation import OPERATIONS, Job
from tunemerge.search.coefficients import choose
from tunemerge.stats.metrics import METRICS, score
from tunemerge.tasks.task import TASKS

TASK = TASKS["text-classification"]


@pytest.fixture(scope="module")
def family(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """A base with a head, and two experts: the base with noise of their own on every tensor."""
    base = tmp_path_factory.mktemp("base")
    TASK.initialise(tiny_bert, base, SPEC, 0)
    experts = []
    for seed in (1, 2):
        folder = tmp_path_factory.mktemp("expert") / "model"
        shutil.copytree(base, folder)
        generator = np.random.default_rng(seed)
        tensors = load_file(base / "model.safetensors")
        noisy = {n: t + generator.normal(0, 0.1, t.shape).astype(np.float32) for n, t in tensors.items()}
        save_file(noisy, folder / "model.safetensors", {"format": "pt"})
        experts.append(folder)
    return base, experts


CANDIDATES: list[dict[str, Any]] = [{"lambda": value} for value in (0.3, 1.0, 0.0, 0.0)]


def _search(family: tuple[Path, list[Path]], validation: list[Path], **more: Any) -> Any:
    base, experts = family
    settings = {"method": "task_arithmetic", "candidates": CANDIDATES, "precision": "float32", "metric": "log_loss"}
    return choose(experts, base, validation, task=SPEC, **{**settings, **more})


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_score_is_that_of_the_merge_on_disk(
    family: tuple[Path, list[Path]], rows_parquet: RowsFactory, tmp_path: Path, dtype: str
) -> None:
    base, experts = family
    stored = []
    for number, folder in enumerate([base, *experts]):
        stored.append(tmp_path / f"m{number}")
        shutil.copytree(folder, stored[-1])
        tensors = {n: t.astype(dtype) for n, t in load_file(folder / "model.safetensors").items()}
        save_file(tensors, stored[-1] / "model.safetensors", {"format": "pt"})
    validation = [rows_parquet(20, 1, "a"), rows_parquet(30, 2, "b")]
    choice = _search((stored[0], stored[1:]), validation)
    for number, trial in enumerate(choice.trials[:2]):
        out = tmp_path / f"merge{number}"
        out.mkdir()
        params = {"method": "task_arithmetic", "parameters": trial.parameters, "average": [], "seed": 0}
        inputs = {"models": tuple(stored[1:]), "base": (stored[0],)}
        from tunemerge.merge import operation as merge_operation

        merge_operation.merge(Job(params, inputs, out))
        values = []
        for rows in validation:
            p = predict([out], rows, task=SPEC, precision="float32").predictions
            values.append(score(METRICS["log_loss"], p.target, p.outputs, p.weight))
        assert trial.score == np.mean(values)


def test_the_best_is_chosen_and_the_first_of_equals(family: tuple[Path, list[Path]], rows_parquet: RowsFactory) -> None:
    choice = _search(family, [rows_parquet(40)])
    scores = [trial.score for trial in choice.trials]
    assert [trial.parameters for trial in choice.trials] == CANDIDATES
    assert scores[2] == scores[3] and len(set(scores)) == 3
    assert choice.chosen == scores.index(max(scores))
    equal = _search(family, [rows_parquet(40)], candidates=CANDIDATES[2:])
    assert equal.chosen == 0
    assert [trial.score for trial in equal.trials] == scores[2:]


def test_the_mean_over_the_splits_not_over_the_rows(family: tuple[Path, list[Path]], rows_parquet: RowsFactory) -> None:
    one, two = rows_parquet(5, 1, "a"), rows_parquet(45, 2, "b")
    alone = [_search(family, [f], metric="accuracy").trials[0].score for f in (one, two)]
    both = _search(family, [one, two], metric="accuracy").trials[0].score
    assert both == pytest.approx(np.mean(alone)) and alone[0] != alone[1]


def test_what_it_costs(family: tuple[Path, list[Path]], rows_parquet: RowsFactory) -> None:
    base, _ = family
    files = [rows_parquet(5, 1, "a"), rows_parquet(45, 2, "b")]
    cost = _search(family, files).cost
    passes = [predict([base], file, task=SPEC).cost for file in files]
    assert cost.trials == 4 and cost.forward_examples == 4 * 50
    assert cost.forward_flops == 4 * sum(p.forward_flops for p in passes)
    assert cost.examples == cost.optimizer_steps == 0


def test_the_step_writes_only_the_choice(
    family: tuple[Path, list[Path]], rows_parquet: RowsFactory, tmp_path: Path
) -> None:
    import tunemerge.search.operation  # noqa: F401  (registers the step)

    base, experts = family
    out = tmp_path / "out"
    out.mkdir()
    params = {
        "method": "ties",
        "candidates": [{"density": 0.2}, {"density": 1.0}],
        "average": ["classifier."],
        "task": SPEC.as_dict(),
        "metric": "accuracy",
        "seed": 3,
        "max_length": 64,
    }
    inputs = {"models": tuple(experts), "base": (base,), "validation": (rows_parquet(30),)}
    told: list[tuple[float, str]] = []
    cost = OPERATIONS["search"].run(Job(params, inputs, out, lambda *a: told.append(a)))
    assert [f.name for f in out.iterdir()] == ["choice.json"]
    stored = json.loads((out / "choice.json").read_text())
    assert stored["parameters"] == params["candidates"][stored["chosen"]]
    assert [t["parameters"] for t in stored["trials"]] == params["candidates"]
    assert all(0 <= t["score"] <= 1 for t in stored["trials"])
    assert cost.trials == 2
    assert told[-1][0] == 1 and told[-1][1].startswith("candidate 2/2, best 0.")


def test_an_undefined_metric_is_an_error(family: tuple[Path, list[Path]], rows_parquet: RowsFactory) -> None:
    one_class = rows_parquet(texts=["good film", "fine food"], labels=["positive", "positive"])
    with pytest.raises(TunemergeError, match=r"auroc of the merge with \{'lambda': 0.3\} is nan"):
        _search(family, [one_class], metric="auroc")


def test_tensors_that_the_model_does_not_have_are_refused(
    family: tuple[Path, list[Path]], rows_parquet: RowsFactory, tmp_path: Path
) -> None:
    base, experts = family
    odd = []
    for number, folder in enumerate([base, *experts]):
        odd.append(tmp_path / f"odd{number}")
        shutil.copytree(folder, odd[-1])
        tensors = {**load_file(folder / "model.safetensors"), "extra.weight": np.ones(2, np.float32)}
        save_file(tensors, odd[-1] / "model.safetensors", {"format": "pt"})
    with pytest.raises(UsageError, match=r"tensor 'extra\.weight' is in only one of file and model class"):
        _search((odd[0], odd[1:]), [rows_parquet(5)])


def test_nothing_to_choose_from_is_refused(family: tuple[Path, list[Path]], rows_parquet: RowsFactory) -> None:
    with pytest.raises(UsageError, match="at least one candidate"):
        _search(family, [rows_parquet(5)], candidates=[])
