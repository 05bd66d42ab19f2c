"""What a plan says a step will compute, held against what torch counts when it does."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from corpus import SPEC, sentences
from small import TUNING, run, small_study, write_table
from tunemerge.graph.step import Leaf, Step
from tunemerge.study.passes import Passes, Reader, network
from tunemerge.tasks import flops
from tunemerge.tasks.rows import Rows
from tunemerge.tasks.task import TASKS

TASK = TASKS["text-classification"]
SMALL = {"vocab_size": 110, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}


def base(kind: str, folder: Path, tiny_bert: Path) -> Path:
    """A small random model of another family, with the tiny BERT's tokenizer."""
    from transformers import AutoModel, DistilBertConfig, GPT2Config, LlamaConfig, RobertaConfig

    config = {
        "distilbert": lambda: DistilBertConfig(vocab_size=110, dim=64, n_layers=3, n_heads=4, hidden_dim=256),
        "gpt2": lambda: GPT2Config(vocab_size=110, n_embd=64, n_layer=3, n_head=4, n_positions=64),
        "llama": lambda: LlamaConfig(
            **SMALL, num_key_value_heads=2, intermediate_size=128, head_dim=16, max_position_embeddings=64
        ),
        "roberta": lambda: RobertaConfig(**SMALL, intermediate_size=256, max_position_embeddings=66),
    }[kind]()
    shutil.copytree(tiny_bert, folder)
    for file in ("config.json", "model.safetensors"):
        (folder / file).unlink()
    AutoModel.from_config(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "gpt2", "llama"])
def test_the_cost_of_a_shape_is_what_torch_counts(tmp_path, tiny_bert, kind):
    folder = tiny_bert if kind == "bert" else base(kind, tmp_path / kind, tiny_bert)
    TASK.initialise(folder, tmp_path / "made", SPEC, 0)
    model = TASK.load(tmp_path / "made", SPEC)
    rows = Rows(sentences(8)[0], np.zeros(8, np.int32), ["u"] * 8, np.ones(8))
    encoded = TASK.encode(model, rows, 64)
    shapes = {(8, 40): 2, (4, 12): 3}
    train, forward = network(folder).flops(Passes(shapes, shapes))
    assert train == pytest.approx(flops.flops(shapes, flops.measure(model, encoded, "full", True)), rel=0.1)
    assert forward == pytest.approx(flops.flops(shapes, flops.measure(model, encoded, "", False)), rel=0.1)


@pytest.fixture(scope="module")
def spent(tmp_path_factory, tiny_bert):
    """A study with every kind of step, run; (plan, cost by key)."""
    folder = tmp_path_factory.mktemp("spent")
    strategies = ["merge_then_tune", "base_probe", "ensemble", "sequential", "best_single"]
    tuning = {**TUNING, "micro_batch": 4, "evaluations": 3}
    study = small_study(folder, tiny_bert, strategies=strategies, methods=["linear"], seeds=1, tuning=tuning)
    results = run(study)
    return study.plan(), {s.key: s.cost for s in results.steps}


def test_every_step_costs_what_the_plan_said(spent):
    plan, costs = spent
    leaf = next(leaf for leaf in plan.graph.leaves if leaf.role == "model")
    net, reader = network(leaf.path), Reader(leaf.path, plan.rows.tables, plan.config.tuning.max_length, TASK)
    total, kinds = [0.0, 0.0], set()
    for step in plan.graph.steps:
        passes, cost = reader.passes(step), costs[step.key]
        method = step.params.get("tuning", {}).get("method", "full")
        train, forward = net.flops(passes, step.params.get("tuning"))
        assert train == pytest.approx(cost.train_flops, rel=0.1), step.label
        assert forward == pytest.approx(cost.forward_flops, rel=0.1), step.label
        assert sum(n * batch for (batch, _), n in passes.train.items()) == cost.examples
        assert sum(n * batch for (batch, _), n in passes.forward.items()) == cost.forward_examples
        total[0] += train + forward
        total[1] += cost.train_flops + cost.forward_flops
        kinds.add((step.op, method))
    assert total[0] == pytest.approx(total[1], rel=0.03)
    assert {("tune", "head"), ("tune", "full"), ("search", "full"), ("predict", "full")} <= kinds


def test_without_a_tokenizer_file_lengths_are_guessed(tmp_path, tiny_bert):
    bare = tmp_path / "bare"
    shutil.copytree(tiny_bert, bare)
    (bare / "tokenizer.json").unlink()
    write_table(tmp_path / "rows.csv", 200, 0)
    tables = {"k": pd.read_csv(tmp_path / "rows.csv")}
    rows = Leaf("k", tmp_path, "rows", "rows")
    step = Step("predict", {}, {"models": (rows,), "rows": (rows,)})
    known, guessed = (Reader(f, tables, 64, TASK).passes(step).forward for f in (tiny_bert, bare))
    tokens = [sum(b * length * n for (b, length), n in shapes.items()) for shapes in (known, guessed)]
    assert tokens[1] == pytest.approx(tokens[0], rel=0.35)


def test_rows_are_cut_where_the_model_ends(tmp_path, tiny_bert):
    tables = {"k": pd.DataFrame({"text": ["good " * 500, "bad"]})}
    rows = Leaf("k", tmp_path, "rows", "rows")
    step = Step("predict", {}, {"models": (rows,), "rows": (rows,)})
    assert dict(Reader(tiny_bert, tables, 256, TASK).passes(step).forward) == {(2, 64): 1}
    assert dict(Reader(tiny_bert, tables, 30, TASK).passes(step).forward) == {(2, 30): 1}
