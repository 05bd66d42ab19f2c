"""What each regulariser does to the numbers, against the same written out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from corpus import SPEC, RowsFactory
from tunemerge.findings import FindingsError
from tunemerge.tasks.batching import Arrays
from tunemerge.tasks.task import TASKS
from tunemerge.tune.averaging import Average
from tunemerge.tune.class_weights import class_weight_findings, class_weights
from tunemerge.tune.config import AverageConfig, TuneConfig
from tunemerge.tune.mixup import Blend, blend
from tunemerge.tune.model import Tuned, tune_model
from tunemerge.tune.objective import Lesson, losses
from tunemerge.tune.optimizer import Start, parameter_groups
from tunemerge.tune.sharpness import again_uphill

KIND = TASKS[SPEC.kind]
State = dict[str, np.ndarray]


@pytest.fixture
def start(tiny_bert: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "start"
    folder.mkdir()
    KIND.initialise(tiny_bert, folder, SPEC, 0, dropout=0.0)
    return folder


def _tune(start: Path, rows: list[Path], examples: int = 24, **settings: Any) -> tuple[State, Tuned]:
    same = {"batch_size": 8, "learning_rate": 1e-3, "precision": "float32", "select": "last", "warmup": 0}
    out = start.parent / f"out{len(list(start.parent.iterdir()))}"
    config = TuneConfig.model_validate({**same, **settings})
    tuned = tune_model(start, out, rows[:1], rows[1:], task=SPEC, seed=5, examples=examples, config=config)
    return load_file(out / "model.safetensors"), tuned


def _apart(one: State, other: State) -> float:
    return max(float(np.abs(one[n] - other[n]).max()) for n in one)


def test_class_weights_have_a_mean_of_one() -> None:
    target = np.array([0, 0, 0, 1])
    weights = class_weights("balanced", SPEC.labels[:2], target)
    assert weights.tolist() == pytest.approx([2 / 3, 2])
    given = class_weights({"a": 1, "b": 5}, ["a", "b"], target)
    assert given[1] / given[0] == pytest.approx(5) and given[target].mean() == pytest.approx(1)
    assert class_weights("balanced", ["a", "b", "c"], target).tolist() == pytest.approx([2 / 3, 2, 0])


def test_class_weights_of_unknown_labels() -> None:
    config = TuneConfig(class_weights={SPEC.labels[0]: 1, "positiv": 2})
    said = [f.message for f in class_weight_findings(config, [SPEC])]
    assert said[0].startswith("'positiv' is no label; did you mean") and said[1] == "no weight for 'positive'"


def test_losses_by_hand(start: Path, rows_parquet: RowsFactory) -> None:
    import torch

    model = KIND.load(start, SPEC)
    rows = KIND.read([rows_parquet(8)], SPEC)
    inputs = {n: torch.from_numpy(a) for n, a in KIND.encode(model, rows, 32).batch(np.arange(8)).items()}
    target = torch.from_numpy(rows.target.astype(np.int64))
    lesson = Lesson(Arrays({}), rows.target, np.arange(8), np.array([0.5, 1.5], np.float32))
    told, learned = losses(model, lesson, TuneConfig(label_smoothing=0.1, precision="float32"), inputs, target)
    logits = model.net(**inputs).logits
    plain = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    smooth = torch.nn.functional.cross_entropy(logits, target, reduction="none", label_smoothing=0.1)
    assert torch.allclose(told, plain)
    assert torch.allclose(learned, smooth * torch.tensor([0.5, 1.5])[target])


def test_mixup_blends_rows_and_answers() -> None:
    import torch

    mixed = Blend(0.75, np.array([1, 0]))
    x = torch.tensor([[0.0, 4.0], [8.0, 0.0]])
    assert mixed.inputs({"x": x})["x"].tolist() == [[2.0, 3.0], [6.0, 1.0]]
    assert mixed.losses(lambda t: t * 1.0, torch.tensor([0, 4])).tolist() == [1.0, 3.0]
    one, same, other = blend(0.2, 8, 1, 3, 0), blend(0.2, 8, 1, 3, 0), blend(0.2, 8, 1, 4, 0)
    assert one.share == same.share != other.share and (one.partner == same.partner).all()
    assert sorted(one.partner) == list(range(8))


def test_mixup_of_words_is_refused(start: Path, rows_parquet: RowsFactory) -> None:
    with pytest.raises(FindingsError, match="mixup blends rows of numbers, and input_ids holds whole ones"):
        _tune(start, [rows_parquet(20)], mixup=0.2)


def test_l2_sp_draws_the_body_to_its_start_and_decays_only_the_head(start: Path) -> None:
    import torch

    model = KIND.load(start, SPEC)
    pull = Start(model, 0.5)
    names = dict(model.net.named_parameters())
    body, head = names["bert.encoder.layer.0.output.dense.weight"], names["classifier.weight"]
    with torch.no_grad():
        body += 1.0
        head += 1.0
    moved, untouched = body.detach().clone(), head.detach().clone()
    pull.pull(torch.optim.SGD(model.net.parameters(), lr=0.1))
    assert torch.allclose(body, moved - 0.1 * 0.5 * 1.0) and torch.equal(head, untouched)
    config = TuneConfig(l2_sp=0.5, weight_decay=0.1)
    groups = parameter_groups(model, config, ["classifier.weight", "bert.encoder.layer.0.output.dense.weight"])
    decay = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    assert (decay[id(head)], decay[id(body)]) == (0.1, 0.0) and len(decay) == len(names)


def test_l2_sp_keeps_a_tuning_near_its_start(start: Path, rows_parquet: RowsFactory) -> None:
    before, rows = load_file(start / "model.safetensors"), [rows_parquet(30)]
    name = "bert.encoder.layer.0.output.dense.weight"
    free, drawn = (_tune(start, rows, 64, weight_decay=0, l2_sp=s)[0][name] for s in (0.0, 500.0))
    assert np.abs(drawn - before[name]).mean() < 0.8 * np.abs(free - before[name]).mean()


def test_rates_fall_with_depth(start: Path) -> None:
    model = KIND.load(start, SPEC)
    groups = parameter_groups(model, TuneConfig(learning_rate=1.0, layer_decay=0.5), set())
    rates = {id(p): g["lr"] for g in groups for p in g["params"]}
    found = {name: rates[id(p)] for name, p in model.net.named_parameters()}
    assert {r for n, r in found.items() if "embeddings" in n} == {0.125}
    assert {r for n, r in found.items() if ".layer.0." in n} == {0.25}
    assert {r for n, r in found.items() if ".layer.1." in n} == {0.5}
    assert found["classifier.weight"] == found["bert.pooler.dense.weight"] == 1.0


def test_a_rate_by_depth_moves_lower_layers_less(start: Path, rows_parquet: RowsFactory) -> None:
    before = load_file(start / "model.safetensors")
    after, _ = _tune(start, [rows_parquet(30)], 8, layer_decay=0.1, weight_decay=0)
    moved = {n: float(np.abs(after[n] - before[n]).max()) for n in after}
    # Adam's first step is the rate itself, up to the sign.
    assert moved["classifier.weight"] == pytest.approx(1e-3, rel=0.01)
    assert moved["bert.encoder.layer.1.output.dense.weight"] == pytest.approx(1e-4, rel=0.01)
    assert moved["bert.encoder.layer.0.output.dense.weight"] == pytest.approx(1e-5, rel=0.05)


def test_sam_takes_the_gradient_uphill() -> None:
    import torch

    net = torch.nn.Linear(3, 1, bias=False)
    x, own = torch.tensor([[1.0, 2.0, -1.0], [0.5, -1.0, 3.0]]), net.weight.detach().clone()

    def backward(batch: Any) -> None:
        (net(batch) ** 2).sum().backward()

    backward(x)
    g = net.weight.grad.clone()
    again_uphill(net, 0.05, [x[:1], x[1:]], backward)
    worst = (own + 0.05 * g / g.norm()).requires_grad_()
    ((x @ worst.T) ** 2).sum().backward()
    assert torch.allclose(net.weight.grad, worst.grad, atol=1e-5) and not torch.allclose(net.weight.grad, g)
    assert torch.equal(net.weight, own)


def test_sam_computes_twice_and_is_charged_twice(start: Path, rows_parquet: RowsFactory) -> None:
    rows = [rows_parquet(30)]
    plain, one = _tune(start, rows)
    sharp, two = _tune(start, rows, sam=0.05)
    parts, _ = _tune(start, rows, sam=0.05, micro_batch=2)
    assert two.cost.train_flops == 2 * one.cost.train_flops and two.cost.examples == one.cost.examples == 24
    assert two.cost.tokens == one.cost.tokens
    assert _apart(sharp, parts) < 5e-6 < _apart(sharp, plain)
    assert one.curve[0].train_loss == pytest.approx(two.curve[0].train_loss, abs=1e-4)


@pytest.mark.parametrize(
    ("config", "weights"),
    [
        ({"method": "ema", "decay": 0.5}, np.array([1, 2, 4, 8, 16, 32]) / 63),
        ({"method": "swa", "start": 0.5}, np.array([0, 0, 0, 1, 1, 1]) / 3),
        ({"method": "lawa", "last": 2}, np.array([0, 0, 0, 1, 0, 1]) / 2),
    ],
    ids=["ema", "swa", "lawa"],
)
def test_an_average_of_states(config: dict[str, Any], weights: np.ndarray) -> None:
    import torch

    net = torch.nn.Linear(2, 2)
    whole, cut = (Average(net, AverageConfig(**config), 6) for _ in range(2))
    states = []
    for step in range(1, 7):
        with torch.no_grad():
            net.weight.copy_(torch.randn(2, 2))
        states.append(net.weight.detach().clone().numpy())
        whole.after_step(step, step % 2 == 0)
        cut.after_step(step, step % 2 == 0)
        if step == 4:  # killed and gone on with
            tensors, values = cut.state()
            cut = Average(net, AverageConfig(**config), 6)
            cut.set_state(tensors, values)
    expected = np.tensordot(weights, np.stack(states), 1)
    assert np.allclose(whole.weights()["weight"].numpy(), expected, atol=1e-6)
    assert torch.equal(cut.weights()["weight"], whole.weights()["weight"])
    with whole.applied():
        assert np.allclose(net.weight.detach().numpy(), expected, atol=1e-6)
    assert np.array_equal(net.weight.detach().numpy(), states[-1])


def test_the_average_is_what_is_scored_and_kept(start: Path, rows_parquet: RowsFactory) -> None:
    rows = [rows_parquet(30, 1, "train"), rows_parquet(20, 2, "validation")]
    last, plain = _tune(start, rows, evaluations=3)
    mean, averaged = _tune(start, rows, evaluations=3, average={"method": "lawa", "last": 3})
    states = [_tune(start, [rows[0]], 24, evaluations=3, average={"method": "lawa", "last": n})[0] for n in (1, 2)]
    name = "bert.encoder.layer.1.output.dense.weight"
    assert np.array_equal(states[0][name], last[name])  # the mean of one state
    before = 2 * states[1][name] - last[name]
    first = 3 * mean[name] - last[name] - before
    assert np.abs(first - load_file(start / "model.safetensors")[name]).max() == pytest.approx(1e-3, rel=0.1)
    assert averaged.curve[0].validation_loss == plain.curve[0].validation_loss  # one state: the same
    assert averaged.curve[-1].validation_loss != plain.curve[-1].validation_loss
    assert [p.train_loss for p in averaged.curve] == [p.train_loss for p in plain.curve]


def test_gradient_checkpointing_changes_the_cost_and_no_bit(start: Path, rows_parquet: RowsFactory) -> None:
    rows = [rows_parquet(30)]
    plain, one = _tune(start, rows, dropout=0.1)
    again, two = _tune(start, rows, dropout=0.1, gradient_checkpointing=True)
    assert _apart(plain, again) == 0
    assert 1.2 < two.cost.train_flops / one.cost.train_flops < 1.4
