"""The permuted view, the assignment, and what alignment is for: networks trained apart."""

from __future__ import annotations

from itertools import pairwise, permutations, product
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from tunemerge.checkpoint.dtypes import NUMPY, to_float32
from tunemerge.checkpoint.header import TensorInfo
from tunemerge.checkpoint.model import open_checkpoint
from tunemerge.checkpoint.source import ArrayModel, Model, open_model
from tunemerge.errors import UsageError
from tunemerge.findings import FindingsError
from tunemerge.merge.align.align import align_models
from tunemerge.merge.align.assign import assign
from tunemerge.merge.align.groups import Axis, Group, Inside, Part
from tunemerge.merge.align.matching import match, voters
from tunemerge.merge.align.permuted import PermutedModel
from tunemerge.merge.align.similarity import Alikeness
from tunemerge.merge.method import METHODS
from tunemerge.merge.recipe.plain import plain_document, plan_models
from tunemerge.merge.runner import run_tensors

State = dict[str, NDArray[Any]]


def arrays(model: Model) -> State:
    out = {}
    for name, info in model.tensors.items():
        out[name] = np.empty(info.shape, NUMPY[info.dtype])
        model.source(name).read_into(out[name].reshape(-1), 0)
    return out


def mlp(*widths: int, seed: int = 0, dtype: Any = np.float32) -> State:
    generator = np.random.default_rng(seed)
    state: State = {}
    for i, (n_in, n_out) in enumerate(pairwise(widths)):
        state[f"layers.{i}.weight"] = generator.standard_normal((n_out, n_in)).astype(dtype)
        state[f"layers.{i}.bias"] = generator.standard_normal(n_out).astype(dtype)
    return state


@pytest.mark.parametrize("shape", [(7,), (5, 6), (6, 4, 3), (4, 3, 2, 5), (3, 300), (5, 2, 260), (1, 4, 5)])
@pytest.mark.parametrize("dtype", [np.float32, np.uint16, np.float64])
def test_a_permuted_tensor_is_read_in_any_pieces(shape: tuple[int, ...], dtype: Any) -> None:
    generator = np.random.default_rng(0)
    values = generator.integers(0, 60000, shape).astype(dtype)
    for chosen in product([False, True], repeat=len(shape)):
        orders = {("t", a): generator.permutation(shape[a]) for a in range(len(shape)) if chosen[a]}
        expected = values
        for (_, axis), order in orders.items():
            expected = expected.take(order, axis=axis)
        source = PermutedModel(ArrayModel("m", {"t": values}), orders).source("t")
        assert (source.dtype, source.where) == (ArrayModel("m", {"t": values}).tensors["t"].dtype, "m: t")
        for size in (1, 3, 8, 64, values.size):
            out = np.empty(values.size, dtype)
            for start in range(0, values.size, size):
                source.read_into(out[start : start + size], start)
            np.testing.assert_array_equal(out, expected.reshape(-1))


def test_a_permuted_model_reads_about_a_block(tmp_path: Path) -> None:
    """Long runs are read straight into the buffer, short ones a row at a time: never more than was asked for."""
    asked: list[int] = []

    class Counting:
        dtype, where = "F32", "x"

        def read_into(self, buffer: NDArray[Any], start: int) -> None:
            asked.append(buffer.size)
            buffer[:] = 0

    class One:
        label, tensors = "x", MappingProxyType({"t": TensorInfo("F32", (512, 1000), 0, 0)})

        def source(self, name: str) -> Counting:
            return Counting()

    buffer = np.empty(4096, np.float32)
    reverse = {axis: np.arange(n)[::-1].copy() for axis, n in enumerate((512, 1000))}
    for axes in ((0,), (1,), (0, 1)):
        asked.clear()
        PermutedModel(One(), {("t", a): reverse[a] for a in axes}).source("t").read_into(buffer, 8192)
        assert max(asked) <= buffer.size and sum(asked) <= buffer.size + 2000


def test_a_permuted_model_goes_through_the_engine_alike_with_any_threads(tmp_path: Path) -> None:
    state = mlp(50, 300, 400, 20)
    save_file(state, tmp_path / "model.safetensors")
    orders = {("layers.0.weight", 0): np.random.default_rng(1).permutation(300)}
    orders[("layers.1.weight", 1)] = orders["layers.0.weight", 0]
    with open_model(open_checkpoint(tmp_path)) as model:
        view = PermutedModel(model, orders)
        names = [model.tensors.keys(), view.tensors.keys()]
        plan = plan_models(plain_document(METHODS["linear"], names, False, {"weight": 0.5}), [model, view])
        results = []
        for threads, block in ((1, 1 << 16), (2, 1 << 10)):
            out = {t.name: np.empty(t.shape, np.float32) for t in plan.tensors}
            run_tensors(plan, [model, view], lambda t, out=out: _sink(out[t.name]), threads=threads, block=block)
            results.append(out)
    for name, values in state.items():
        expected = (values.astype(np.float64) + arrays(PermutedModel(ArrayModel("a", state), orders))[name]) / 2
        np.testing.assert_array_equal(results[0][name], results[1][name])
        np.testing.assert_allclose(results[0][name], expected, rtol=1e-6, atol=1e-7)


def _sink(array: NDArray[Any]) -> Any:
    def sink(start: int, values: NDArray[Any]) -> None:
        array.reshape(-1)[start : start + values.size] = values

    return sink


def test_an_assignment_on_two_levels_is_the_best_of_all() -> None:
    """Three heads of three dimensions: every arrangement is tried."""
    generator = np.random.default_rng(0)
    group = Group("g", 3, (Axis("v", 0, 0, 3), Axis("o", 1, 0, 3)), (Inside("d", 3, (Part(0), Part(1))),))
    for _ in range(15):
        alike = Alikeness(
            generator.standard_normal((3, 3)),
            {e: generator.standard_normal((3, 3, 3, 3)).astype(np.float32) for e in range(2)},
        )
        both = alike.elements[0].astype(np.float64) + alike.elements[1]
        inner = np.array(
            [
                [max(sum(both[i, d, j, p[d]] for d in range(3)) for p in permutations(range(3))) for j in range(3)]
                for i in range(3)
            ]
        )
        best = max(sum((alike.units + inner)[i, p[i]] for i in range(3)) for p in permutations(range(3)))
        found = assign(group, alike)
        assert found.after == pytest.approx(best, rel=1e-5)
        assert found.before == pytest.approx(np.trace(alike.units) + np.einsum("ibib->", both), rel=1e-5)
        value = sum(alike.units[i, j] for i, j in enumerate(found.units))
        value += sum(both[i, d, j, found.inside[0][i, d]] for i, j in enumerate(found.units) for d in range(3))
        assert value == pytest.approx(found.after, rel=1e-5)


def test_statistics_and_axes_that_move_together_have_no_say() -> None:
    square = Group("r", 4, (Axis("w", 0), Axis("w", 1), Axis("u", 0), Axis("bn.running_var", 0)))
    assert voters([square]) == {"u"}


def test_a_permuted_copy_is_found_from_any_seed() -> None:
    state = mlp(6, 30, 40, 25, 4)
    model = ArrayModel("a", state)
    generator = np.random.default_rng(5)
    orders = {}
    for i, width in enumerate((30, 40, 25)):
        order = generator.permutation(width)
        orders |= {(f"layers.{i}.{leaf}", 0): order for leaf in ("weight", "bias")} | {
            (f"layers.{i + 1}.weight", 1): order
        }
    copy = ArrayModel("b", arrays(PermutedModel(model, orders)))
    for seed in range(5):
        result = align_models([model, copy], seed=seed)
        for name, values in arrays(result.models[1]).items():
            np.testing.assert_array_equal(values, state[name])
        assert [g.moved > 0.8 for g in result.reports[0].groups] == [True, True, True]


def test_the_same_seed_gives_the_same_orders_and_never_a_worse_match() -> None:
    model, other = (ArrayModel(str(s), mlp(6, 20, 20, 4, seed=s)) for s in range(2))
    first, again = (align_models([model, other], seed=7) for _ in range(2))
    assert first.reports == again.reports
    assert all(
        np.array_equal(a, b) for a, b in zip(*(arrays(r.models[1]).values() for r in (first, again)), strict=True)
    )
    for seed in range(5):
        report = align_models([model, other], seed=seed).reports[0]
        assert report.after > report.before
    same = align_models([model, ArrayModel("copy", mlp(6, 20, 20, 4))]).reports[0]
    assert (same.after, same.sweeps) == (pytest.approx(1), 1)
    assert [g.moved for g in same.groups] == [0, 0]


def test_every_model_is_aligned_to_the_reference() -> None:
    models = [ArrayModel(f"m{s}", mlp(6, 20, 4, seed=s)) for s in range(3)]
    result = align_models(models, reference=1)
    assert result.models[1] is models[1]
    assert [(r.model, r.reference) for r in result.reports] == [("m0", "m1"), ("m2", "m1")]
    assert set(result.reports[0].as_dict()["groups"][0]) == {"name", "units", "before", "after", "moved"}


def test_half_precision_is_compared_as_it_is() -> None:
    state = mlp(6, 20, 4)
    bits = {name: (v.view(np.uint32) >> 16).astype(np.uint16) for name, v in state.items()}
    order = np.random.default_rng(0).permutation(20)
    orders = {("layers.0.weight", 0): order, ("layers.0.bias", 0): order, ("layers.1.weight", 1): order}
    model = ArrayModel("a", bits)
    back = align_models([model, PermutedModel(model, orders)]).models[1]
    for name, values in arrays(back).items():
        assert values.dtype == np.uint16
        np.testing.assert_array_equal(to_float32(values, "BF16"), to_float32(bits[name], "BF16"))


def test_models_that_do_not_fit_are_refused_with_all_that_is_wrong() -> None:
    good, narrow, whole = mlp(6, 20, 4), mlp(6, 19, 4), mlp(6, 20, 4)
    del narrow["layers.0.bias"]
    whole["layers.1.weight"] = whole["layers.1.weight"].astype(np.int64)
    with pytest.raises(FindingsError) as caught:
        align_models([ArrayModel(n, s) for n, s in (("a", good), ("b", narrow), ("c", whole))])
    assert [(f.code, f.where) for f in caught.value.findings] == [
        ("tensor-names", "b (model 2)"),
        ("tensor-shapes", "b (model 2)"),
        ("align-dtype", "c (model 3): layers.1.weight"),
    ]


def test_weights_that_are_not_finite_are_refused_by_name() -> None:
    state = mlp(6, 20, 4, seed=1)
    state["layers.1.weight"][2, 3] = np.nan
    with pytest.raises(UsageError, match=r"b: layers\.1\.weight: holds NaN or Inf"):
        align_models([ArrayModel("a", mlp(6, 20, 4)), ArrayModel("b", state)])


def test_groups_of_nothing_change_nothing() -> None:
    model = ArrayModel("a", mlp(6, 20, 4))
    assert match(model, ArrayModel("b", mlp(6, 20, 4, seed=1)), []).sweeps == 1


def test_networks_trained_apart_merge_only_once_aligned() -> None:
    """Digits: three networks from different initialisations. Their plain average has lost most of what they know."""
    import torch
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    torch.set_num_threads(1)
    x, y = load_digits(return_X_y=True)
    split = train_test_split((x / 16).astype(np.float32), y, test_size=0.5, random_state=0, stratify=y)
    train_x, test_x, train_y, test_y = (torch.as_tensor(part) for part in split)

    def network() -> torch.nn.Sequential:
        widths = (64, 128, 128, 128)
        layers = [m for a, b in pairwise(widths) for m in (torch.nn.Linear(a, b), torch.nn.ReLU())]
        return torch.nn.Sequential(*layers, torch.nn.Linear(128, 10))

    def trained(seed: int) -> torch.nn.Sequential:
        torch.manual_seed(seed)
        module = network()
        optimizer = torch.optim.AdamW(module.parameters(), lr=5e-3, weight_decay=1e-3)
        for _ in range(15):
            for rows in torch.randperm(len(train_x)).split(64):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(module(train_x[rows]), train_y[rows]).backward()
                optimizer.step()
        return module

    def accuracy(state: State) -> float:
        module = network()
        module.load_state_dict({name: torch.as_tensor(values) for name, values in state.items()})
        with torch.no_grad():
            return float((module(test_x).argmax(1) == test_y).float().mean())

    def average(states: list[State]) -> State:
        return {name: np.mean([state[name] for state in states], axis=0) for name in states[0]}

    states = [{n: v.numpy().copy() for n, v in trained(seed).state_dict().items()} for seed in (1, 2, 3)]
    result = align_models([ArrayModel(f"seed {i}", s) for i, s in enumerate(states)])
    aligned = [arrays(model) for model in result.models]
    alone = [accuracy(state) for state in states]
    assert [accuracy(state) for state in aligned] == pytest.approx(alone, abs=0.002)
    assert min(alone) > 0.93
    assert accuracy(average(aligned)) > accuracy(average(states)) + 0.4
    assert accuracy(average(aligned)) > min(alone) - 0.06
    assert all(report.before < 0.1 and report.after > 0.4 for report in result.reports)


def test_file_models_are_aligned_as_arrays_are(tmp_path: Path) -> None:
    for seed in range(2):
        (tmp_path / str(seed)).mkdir()
        save_file(mlp(6, 20, 20, 4, seed=seed), tmp_path / str(seed) / "model.safetensors")
    states = [load_file(tmp_path / str(seed) / "model.safetensors") for seed in range(2)]
    in_memory = align_models([ArrayModel(str(i), s) for i, s in enumerate(states)])
    with open_model(open_checkpoint(tmp_path / "0")) as a, open_model(open_checkpoint(tmp_path / "1")) as b:
        from_files = arrays(align_models([a, b]).models[1])
    for name, values in arrays(in_memory.models[1]).items():
        np.testing.assert_array_equal(values, from_files[name])
