"""Tasks with other labels, or values, have heads of their own on one merged body; heads that overlap share rows."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml

from commands import command
from corpus import SPEC, sentences
from small import SPLITS, TUNING, run, write_study
from tunemerge.checkpoint.heads import heads_findings, read_heads, write_heads
from tunemerge.checkpoint.model import open_checkpoint
from tunemerge.checkpoint.reader import read_tensor
from tunemerge.errors import UsageError
from tunemerge.evaluate.predict import predict
from tunemerge.study.export import export_arm
from tunemerge.study.study import Study
from tunemerge.tasks.first_heads import initialise_heads
from tunemerge.tasks.hub import copy_tokenizer
from tunemerge.tasks.several import several
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS
from tunemerge.tune.config import TuneConfig
from tunemerge.tune.model import tune_model

LABELS = ("negative", "positive", "mixed", "value")


def tables(folder):
    """b: its other label is called otherwise than that of a; v: a value that follows from the label."""
    b, v = pd.read_csv(folder / "b.csv"), pd.read_csv(folder / "a.csv")
    b.replace({"label": {"negative": "mixed"}}).to_csv(folder / "b.csv", index=False)
    v = v.assign(text=v["text"] + " day", value=np.where(v["label"] == "positive", 30.0, 10.0))
    v.to_csv(folder / "v.csv", index=False)


@pytest.fixture(scope="module")
def trained_body(tmp_path_factory, tiny_bert):
    """A body that tells the words apart: on one that knows nothing, no head leaves chance within a test's few steps."""
    from transformers import AutoModel

    folder = tmp_path_factory.mktemp("trained_body")
    texts, labels = sentences(300, 9)
    rows = pd.DataFrame({"text": texts, "label": labels, "unit": [str(i) for i in range(300)], "weight": 1.0})
    rows.to_parquet(folder / "rows.parquet")
    TASKS[SPEC.kind].initialise(tiny_bert, folder / "start", SPEC, 0)
    taught = {"task": SPEC, "seed": 0, "examples": 900, "config": TuneConfig(**{**TUNING, "dropout": 0.0})}
    tune_model(folder / "start", folder / "tuned", [folder / "rows.parquet"], **taught)
    AutoModel.from_pretrained(folder / "tuned").save_pretrained(folder / "body")
    copy_tokenizer(tiny_bert, folder / "body")
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory, trained_body):
    """Two classifiers that share a label, and a regressor: (study, results)."""
    folder = tmp_path_factory.mktemp("heads")
    tasks = {n: {"data": f"{n}.csv", "splits": SPLITS} for n in "abv"}
    values = write_study(
        folder,
        trained_body / "body",
        tasks={**tasks, "v": {**tasks["v"], "kind": "text-regression"}},
        strategies=["tune_then_merge", "joint", "experts"],
        methods=["linear"],
        candidates=1,
        seeds=1,
        budget={"examples": 240},
    )
    tables(folder)
    study = Study.from_dict(values, folder, folder / "work")
    assert study.config.metric == "accuracy_and_r2"
    return study, run(study)


def arm_of(results, name):
    return next(a for a in results.arms if a.name.split("/")[0] == name)


def models(study, results, arm):
    return {t: study.store.get(keys[0][0]).path for t, keys in arm_of(results, arm).models.items()}


def rows_of(folder, label):
    """What a model has for a label: the row of the output layer and its bias."""
    heads, checkpoint = read_heads(folder), open_checkpoint(folder)
    (row,) = heads.rows([label])
    return np.concatenate([read_tensor(checkpoint, name)[row].reshape(-1) for name in heads.tensors])


def test_the_output_layer_has_a_row_for_every_label(finished):
    study, results = finished
    heads = read_heads(models(study, results, "tune_then_merge")["a"])
    assert sorted(heads.labels) == sorted(LABELS) and heads.learned == frozenset(LABELS)
    experts = {task: read_heads(path) for task, path in models(study, results, "experts").items()}
    assert experts["a"].learned == {"negative", "positive"} and experts["v"].learned == {"value"}


@pytest.mark.parametrize("label, task", [("negative", "a"), ("mixed", "b"), ("value", "v")])
def test_a_row_that_one_model_learned_is_that_models_whole(finished, label, task):
    study, results = finished
    merged = models(study, results, "tune_then_merge")["a"]
    parts = [s for s in study.plan().graph.steps if s.op == "merge"]
    by_name = {n.label.split(":")[0]: study.store.get(n.key).path for n in parts[-1].inputs["models"]}
    own = next(path for name, path in by_name.items() if name.endswith(task))
    np.testing.assert_array_equal(rows_of(merged, label), rows_of(own, label))
    assert all((rows_of(path, label) != rows_of(own, label)).any() for path in by_name.values() if path != own)


def test_a_row_that_several_models_learned_is_merged_from_these(finished):
    study, results = finished
    (step,) = [s for s in study.plan().graph.steps if s.op == "merge"]
    a, b, v = (study.store.get(n.key).path for n in step.inputs["models"])
    merged = rows_of(models(study, results, "tune_then_merge")["a"], "positive")
    one, other, without = (rows_of(path, "positive") for path in (a, b, v))
    np.testing.assert_allclose(merged, (one + other) / 2, rtol=1e-4, atol=1e-7)
    assert np.abs(merged - (one + other + without) / 3).max() > 1e-3


@pytest.mark.parametrize("task", ["a", "b", "v"])
@pytest.mark.parametrize("arm", ["joint", "tune_then_merge"])
def test_the_export_of_a_task_is_a_usual_model_that_predicts_the_same(finished, tmp_path, arm, task):
    from transformers import AutoModelForSequenceClassification

    study, results = finished
    assert export_arm(results, study.store, tmp_path / "out", arm_of(results, arm).name, task).task == task
    assert read_heads(tmp_path / "out") is None
    assert f"It has the outputs of the task {task}" in (tmp_path / "out" / "README.md").read_text()
    info = next(t for t in results.tasks if t.name == task)
    spec = Spec(info.kind, tuple(info.labels))
    net = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert list(net.config.id2label.values()) == info.labels
    plan = study.plan()
    rows = plan.rows.tasks[task].parts[0]["test"].path
    step = plan.predictions[arm_of(results, arm).name, 0, task, "test"]
    table = pd.read_parquet(study.store.get(step.key).path / "predictions.parquet")
    outputs = table[[c for c in table if c.startswith(("logit_", "output_"))]].to_numpy()
    found = predict([tmp_path / "out"], rows, task=spec, max_length=32, precision="float32").predictions
    np.testing.assert_allclose(found.outputs, outputs, rtol=1e-5, atol=1e-5)


def test_an_ensemble_asks_the_models_that_have_learned_the_labels(finished):
    study, results = finished
    experts = models(study, results, "experts")
    rows = study.plan().rows.tasks["a"].parts[0]["validation"].path
    spec = Spec("text-classification", ("negative", "positive"))
    told = {"task": spec, "max_length": 32, "precision": "float32"}
    alone, together = predict([experts["a"]], rows, **told), predict([experts["a"], experts["v"]], rows, **told)
    np.testing.assert_array_equal(together.predictions.outputs, alone.predictions.outputs)
    assert together.cost.forward_examples == alone.cost.forward_examples


def test_a_mix_teaches_every_head(finished):
    study, results = finished
    joint = arm_of(results, "joint").tasks
    assert joint["a"].score.value > 0.75 and joint["b"].score.value > 0.75 and joint["v"].score.value > 0.3
    assert read_heads(models(study, results, "joint")["a"]).learned == frozenset(LABELS)


def test_a_checkpoint_keeps_its_own_rows_by_name(trained_body, tmp_path):
    classes, value = Spec("text-classification", ("mixed", "positive", "negative")), Spec("text-regression", ("value",))
    scale, both = {"mean": 2.0, "std": 3.0}, several([classes, value])
    initialise_heads(trained_body / "tuned", tmp_path / "out", both, 0, None, [None, scale])
    made, had = open_checkpoint(tmp_path / "out"), open_checkpoint(trained_body / "tuned")
    known = read_heads(tmp_path / "out")
    assert known.labels == ("mixed", "positive", "negative", "value") and known.learned == {"positive", "negative"}
    for name in known.tensors:
        rows = read_tensor(made, name)
        np.testing.assert_array_equal(rows[[2, 1]], read_tensor(had, name))
    assert known.fitted(value.as_dict()) == scale


def test_given_models_with_other_labels_are_a_pool(tiny_bert, tmp_path):
    values = write_study(
        tmp_path, tiny_bert, strategies=["merge_only", "expert"], methods=["linear"], candidates=1, seeds=1
    )
    tables(tmp_path)
    kind, labels = TASKS[SPEC.kind], {"a": ("negative", "positive"), "b": ("other", "mixed", "positive")}
    for seed, name in enumerate("ab"):
        kind.initialise(tiny_bert, tmp_path / f"model_{name}", Spec(SPEC.kind, labels[name]), seed)
    pool = {name: f"model_{name}" for name in "ab"}
    study = Study.from_dict({**values, "pool": pool}, tmp_path, tmp_path / "work")
    merged = models(study, run(study), "merge_only")["a"]
    with pytest.raises(UsageError, match="no head of the model predicts other"):
        rows_of(merged, "other")
    given = {name: open_checkpoint(tmp_path / f"model_{name}") for name in "ab"}

    def row(name, label):
        number = labels[name].index(label)
        return np.concatenate(
            [read_tensor(given[name], f"classifier.{t}")[number].reshape(-1) for t in ("weight", "bias")]
        )

    np.testing.assert_array_equal(rows_of(merged, "mixed"), row("b", "mixed"))
    np.testing.assert_allclose(
        rows_of(merged, "positive"), (row("a", "positive") + row("b", "positive")) / 2, atol=1e-7
    )
    short = Study.from_dict({**values, "pool": {"a": "model_b", "b": "model_a"}}, tmp_path, tmp_path / "work")
    assert {f.where for f in short.check() if f.code == "head-labels"} == {"pool.a", "pool.b"}


def test_adapters_of_different_heads_are_merged_and_exported_with_all_outputs(trained_body, tmp_path):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification as Auto

    values = write_study(
        tmp_path,
        trained_body / "body",
        strategies=["tune_then_merge"],
        methods=["linear"],
        candidates=1,
        seeds=1,
        tuning={**TUNING, "method": "lora", "lora": {"rank": 2}},
    )
    tables(tmp_path)
    study = Study.from_dict(values, tmp_path, tmp_path / "work")
    results = run(study)
    assert results.arms[0].form == "adapter r=4 on base"
    export_arm(results, study.store, tmp_path / "plain")
    export_arm(results, study.store, tmp_path / "lora", adapter=True)
    assert read_heads(tmp_path / "plain").learned == {"negative", "positive", "mixed"}
    ids = torch.tensor([[2, 5, 6, 7, 3]])
    with torch.no_grad():
        whole = Auto.from_pretrained(tmp_path / "plain").eval()(input_ids=ids).logits
        under = Auto.from_pretrained(tmp_path / "lora" / "base").eval()
        adapted = PeftModel.from_pretrained(under, tmp_path / "lora").eval()(input_ids=ids).logits
    assert whole.shape == (1, 3) and torch.allclose(whole, adapted, atol=1e-5)


def test_a_merge_by_hand_keeps_the_record_and_says_which_rows_were_not_learned(finished, tmp_path):
    study, results = finished
    experts = models(study, results, "experts")
    listed = [{"model": str(experts[name]), "parameters": {"weight": 0.5}} for name in "av"]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"merge_method": "linear", "models": listed}))
    said = command("merge", "recipe.yaml", "merged", cwd=tmp_path)
    assert said.returncode == 0 and "heads-unlearned" in said.stdout and "tunemerge_heads" not in said.stdout
    record, (a, v) = read_heads(tmp_path / "merged"), (read_heads(experts[name]) for name in "av")
    assert record.learned == {"negative", "positive", "value"} and (record.labels, record.heads) == (a.labels, a.heads)
    found = heads_findings({"a": experts["a"], "v": experts["v"]})
    assert [(f.code, f.severity) for f in found] == [("heads-unlearned", "warning")]
    write_heads(tmp_path / "merged", replace(v, labels=v.labels[::-1]))
    (found,) = heads_findings({"a": experts["a"], "other": tmp_path / "merged"})
    assert (found.code, found.severity, found.where) == ("heads-differ", "error", "other")


def test_a_simple_model_is_fitted_for_every_head(tiny_bert, tmp_path):
    values = write_study(tmp_path, tiny_bert, strategies=["joint"], seeds=1)
    tables(tmp_path)
    pd.read_csv(tmp_path / "v.csv").assign(text=lambda rows: rows["text"] + " too").to_csv(tmp_path / "w.csv")
    task = {"kind": "text-regression", "splits": SPLITS, "value": "value"}
    numbers = {n: {**task, "data": f"{n}.csv", "quantity": q} for n, q in (("v", "value"), ("w", "price"))}
    plan = Study.from_dict({**values, "tasks": numbers, "metric": "r2"}, tmp_path, tmp_path / "work").plan()
    for name, other in ("vw", "wv"):
        step = plan.predictions["tfidf_linear", 0, name, "test"]
        parts = plan.rows.tasks[name].parts[0]
        assert {leaf.key for leaf in step.inputs["train"]} == {parts["source"].key, parts["adapt"].key}
        assert step.params["task"]["labels"] == [numbers[name]["quantity"]] != [numbers[other]["quantity"]]
    both = {**numbers, "a": {"data": "a.csv", "splits": SPLITS}}
    mixed = Study.from_dict({**values, "tasks": both}, tmp_path, tmp_path / "work").plan()
    assert {mixed.predictions["tfidf_linear", 0, n, "test"].params["task"]["kind"] for n in both} == {
        "text-classification",
        "text-regression",
    }
