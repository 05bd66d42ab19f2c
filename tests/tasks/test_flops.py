from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corpus import SPEC, sentences
from tunemerge.tasks import flops
from tunemerge.tasks.batching import Encoded
from tunemerge.tasks.rows import Rows
from tunemerge.tasks.task import TASKS

TASK = TASKS["text-classification"]


def _model(folder: Path, tmp_path: Path, n: int = 6) -> tuple[Any, Encoded]:
    TASK.initialise(folder, tmp_path, SPEC, 0)
    model = TASK.load(tmp_path, SPEC)
    rows = Rows(sentences(n)[0], np.zeros(n, np.int32), ["u"] * n, np.ones(n))
    return model, TASK.encode(model, rows, 64)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("shape", [(1, 40), (5, 64), (3, 2)])
def test_four_shapes_give_every_other_exactly(
    tiny_bert: Path, tmp_path: Path, training: bool, shape: tuple[int, int]
) -> None:
    model, encoded = _model(tiny_bert, tmp_path)
    found = flops.flops({shape: 3}, flops.measure(model, encoded, "full", training))
    assert found == 3 * flops.count(model, encoded, *shape, training)


def test_work_done_once_a_batch_is_not_charged_to_every_sequence(tiny_bert: Path, tmp_path: Path) -> None:
    from transformers import AutoModel, DebertaV2Config

    folder = tmp_path / "deberta"
    shutil.copytree(tiny_bert, folder)
    config = DebertaV2Config(
        vocab_size=110,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        position_buckets=16,
    )
    AutoModel.from_config(config).save_pretrained(folder)
    (tmp_path / "made").mkdir()
    model, encoded = _model(folder, tmp_path / "made")
    coefficients = flops.measure(model, encoded, "full", True)
    assert coefficients[3] > 0
    assert flops.flops({(8, 40): 1}, coefficients) == flops.count(model, encoded, 8, 40, True)


def _analytic(config: Any, batch: int, length: int) -> float:
    """Forward pass: 2 operations a token and weight of the matrices, attention's scores and mixing, pooler, head."""
    width, inner = config.hidden_size, config.intermediate_size
    token = config.num_hidden_layers * 2 * (4 * width * width + 2 * width * inner)
    attention = config.num_hidden_layers * 2 * 2 * length * width
    head = 2 * (width * width + width * config.num_labels)
    return batch * (length * (token + attention) + head)


def test_agrees_with_the_analytic_count(tiny_bert: Path, tmp_path: Path) -> None:
    model, encoded = _model(tiny_bert, tmp_path)
    forward = flops.flops({(4, 48): 1}, flops.measure(model, encoded, "", False))
    assert forward == pytest.approx(_analytic(model.net.config, 4, 48), rel=0.01)
    both = flops.flops({(4, 48): 1}, flops.measure(model, encoded, "full", True))
    assert both == pytest.approx(3 * forward, rel=0.01)


def test_a_frozen_body_needs_no_backward_pass(tiny_bert: Path, tmp_path: Path) -> None:
    model, encoded = _model(tiny_bert, tmp_path)
    model.net.requires_grad_(False)
    for parameter in TASK.head(model):
        parameter.requires_grad_(True)
    forward = flops.flops({(4, 48): 1}, flops.measure(model, encoded, "", False))
    probe = flops.flops({(4, 48): 1}, flops.measure(model, encoded, "head", True))
    assert forward < probe < 1.01 * forward


def test_measuring_leaves_no_trace(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(flops, "_measured", {})
    model, encoded = _model(tiny_bert, tmp_path)
    before = {name: tensor.clone() for name, tensor in model.net.state_dict().items()}
    random, attention = torch.get_rng_state(), model.net.config._attn_implementation
    flops.measure(model, encoded, "full", True)
    assert torch.equal(torch.get_rng_state(), random)
    assert model.net.config._attn_implementation == attention == "sdpa"
    assert not model.net.training
    assert all(p.grad is None for p in model.net.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.net.state_dict().items())
    assert len(flops._measured) == 1
