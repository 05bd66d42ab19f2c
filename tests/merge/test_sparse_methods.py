"""What the sparse and elementwise methods promise beyond the contract suite, on inputs that hypothesis makes up."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tunemerge.checkpoint.dtypes import NUMPY, from_float32, to_float32
from tunemerge.checkpoint.source import ArraySource
from tunemerge.errors import UsageError
from tunemerge.findings import FindingsError
from tunemerge.merge.blocks import sample_pieces, stream_tensor
from tunemerge.merge.kernels import sce, select
from tunemerge.merge.kernels.signatures import LANES
from tunemerge.merge.kernels.window import kth_largest
from tunemerge.merge.memory import merge_state
from tunemerge.merge.method import METHODS, SAMPLE, Block, Method, Tensor
from tunemerge.merge.random import draws, keep_mask, rank_thresholds, stream_key
from tunemerge.merge.selection import RandomByRank, Ranked, Selection, middle_counts

DELTAS = [
    "breadcrumbs",
    "breadcrumbs_ties",
    "dare_linear",
    "dare_ties",
    "della",
    "della_linear",
    "ram",
    "ramplus_tl",
    "sce",
    "ties",
]
RANDOM = ["dare_linear", "dare_ties", "della", "della_linear"]
FEW_VALUES = st.sampled_from([0.0, -0.0, 1e-40, 0.5, -0.5, 1.0, -1.0, 3.0, 2.0**100])
quick = settings(max_examples=40, deadline=None)


def shares(method: Method) -> dict[str, Any]:
    """Settings at which the method leaves something out, where it can."""
    values = {"density": 0.5, "epsilon": 0.1, "gamma": 0.2, "select_topk": 0.5}
    if method.name.startswith("ram"):
        values["epsilon"] = 0.01
    return {name: value for name, value in values.items() if name in {p.name for p in method.parameters}}


def mask_of(selection: Selection, rows: NDArray[Any], base: NDArray[Any], block: int) -> NDArray[np.bool_]:
    """All passes of a selection over blocks of a matrix of models."""
    out = np.empty(base.size, rows.dtype)
    pieces = [slice(i, min(i + block, base.size)) for i in range(0, base.size, block)]
    blocks = [Block(np.ascontiguousarray(rows[:, p]), base[p], p.start, out[p]) for p in pieces]
    for index in range(selection.passes):
        for ready in blocks:
            selection.scan(index, ready)
        selection.finish(index)
    found = []
    for ready in blocks:
        keep = np.empty(ready.rows.shape, np.bool_)
        selection.mask(ready, keep)
        found.append(keep)
    return np.concatenate(found, axis=1) if found else np.empty(rows.shape, np.bool_)


@quick
@given(st.lists(FEW_VALUES, min_size=1, max_size=90), st.floats(0, 1), st.floats(0, 1), st.sampled_from([1, 7, 16, 64]))
def test_the_middle_is_that_of_a_stable_sort(values: list[float], density: float, gamma: float, block: int) -> None:
    rows = np.array([values, values[::-1]], np.float32)
    top, last = middle_counts(density, gamma, len(values))
    expected = np.zeros(rows.shape, bool)
    for row, mask in zip(rows, expected, strict=True):
        mask[np.argsort(-np.abs(row), kind="stable")[top:last]] = True
    assert expected.sum(axis=1).tolist() == [int(density * len(values))] * 2
    base = np.zeros(len(values), np.float32)
    assert np.array_equal(mask_of(Ranked([(top, last)] * 2, len(values)), rows, base, block), expected)


def test_the_middle_over_many_chunks_of_tied_magnitudes() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(-6, 7, (2, 30_000)).astype(np.float32) / 8
    for counts in ((100, 20_000), (9_000, 9_500), (0, 29_999), (25_000, 30_000), (3_000, 3_000)):
        expected = np.zeros(rows.shape, bool)
        for row, mask in zip(rows, expected, strict=True):
            mask[np.argsort(-np.abs(row), kind="stable")[slice(*counts)]] = True
        found = mask_of(Ranked([counts] * 2, 30_000), rows, np.zeros(30_000, np.float32), 8192)
        assert np.array_equal(found, expected), counts


@quick
@given(
    st.lists(FEW_VALUES, min_size=1, max_size=300),
    st.integers(1, 80),
    st.floats(0.01, 0.99),
    st.floats(0, 1),
    st.integers(0, 2**32),
)
def test_draws_by_rank_are_those_of_sorted_rows(
    values: list[float], columns: int, density: float, part: float, seed: int
) -> None:
    epsilon = 0.99 * part * min(density, 1 - density)
    whole = np.array(values * columns, np.float32).reshape(len(values), columns)
    rows = np.random.default_rng(seed).permuted(whole, axis=None).reshape(1, -1)
    tensor = Tensor("x", whole.shape, 1, {"density": [density], "epsilon": [epsilon]}, seed)
    base = np.zeros(rows.size, np.float32)
    found = mask_of(RandomByRank(tensor, "della"), rows, base, columns * max(1, 100 // columns))
    ranks = np.abs(rows.reshape(whole.shape)).argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    drawn = draws(stream_key(seed, "della", 0, "x"), rows.size).reshape(whole.shape)
    expected = drawn < rank_thresholds(density, epsilon, columns)[ranks]
    moved = rows.reshape(whole.shape) != 0
    assert np.array_equal(found.reshape(whole.shape)[moved], expected[moved])


@pytest.mark.parametrize("columns", [33, 600, 5000, 40_000])
@pytest.mark.parametrize("kind", ["spread", "tied", "equal", "few moved", "outliers"])
def test_draws_by_rank_in_long_rows(columns: int, kind: str) -> None:
    rng = np.random.default_rng(columns)
    rows = {
        "spread": rng.normal(0, 1, (2, columns)),
        "tied": rng.integers(-9, 10, (2, columns)) / 8,
        "equal": np.full((2, columns), 0.25),
        "few moved": rng.normal(0, 1, (2, columns)) * (rng.random((2, columns)) < 0.1),
        "outliers": rng.normal(0, 1, (2, columns)) * np.where(np.arange(columns) % 50, 1.0, 2.0**40),
    }[kind].astype(np.float32)
    values = {"density": [0.5, 0.3], "epsilon": [0.4, 0.25]}
    found = mask_of(
        RandomByRank(Tensor("x", (columns,), 2, values, 5), "della"), rows, np.zeros(columns, np.float32), columns
    )
    for i, row in enumerate(rows):
        ranks = np.abs(row).argsort(kind="stable").argsort(kind="stable")
        thresholds = rank_thresholds(values["density"][i], values["epsilon"][i], columns)
        expected = draws(stream_key(5, "della", i, "x"), columns) < thresholds[ranks]
        assert np.array_equal(found[i][row != 0], expected[row != 0])


def test_della_keeps_large_elements_more_often() -> None:
    """The share that stays, by quarters of rank, is that of the straight line."""
    rows = np.abs(np.random.default_rng(1).normal(0, 1, (1, 400 * 1000))).astype(np.float32)
    tensor = Tensor("x", (400, 1000), 1, {"density": [0.4], "epsilon": [0.2]})
    found = mask_of(RandomByRank(tensor, "della"), rows, np.zeros(rows.size, np.float32), 64_000).reshape(400, 1000)
    ranks = rows.reshape(400, 1000).argsort(axis=1).argsort(axis=1)
    for quarter in range(4):
        inside = (ranks >= 250 * quarter) & (ranks < 250 * (quarter + 1))
        assert abs(found[inside].mean() - (0.25 + 0.1 * quarter)) < 0.006


@quick
@given(st.lists(st.tuples(*[st.floats(-1e10, 1e10, width=32)] * 4), min_size=1, max_size=40))
def test_variances_are_those_of_numpy(values: list[tuple[float, ...]]) -> None:
    rows = np.array(values, np.float32).T.copy()
    found = np.empty(len(values), np.float32)
    sce.variances(rows, np.zeros(len(values), np.float32), found)
    expected = rows.astype(np.float64).var(axis=0)
    assert np.allclose(found, expected, rtol=2e-7, atol=1e-45)
    same = (rows == rows[0]).all(axis=0)
    assert np.array_equal(found[same], np.zeros(same.sum()))


@pytest.mark.parametrize("models", range(1, 12))
def test_equal_deltas_have_no_variance(models: int) -> None:
    rows = np.tile(np.random.default_rng(0).normal(0, 1, 500).astype(np.float32), (models, 1))
    found = np.ones(500, np.float32)
    sce.variances(rows, np.zeros(500, np.float32), found)
    assert not found.any()


def reference_and_stream(
    name: str, models: Sequence[NDArray[Any]], base: NDArray[Any], dtypes: Sequence[str], **given: Any
) -> tuple[NDArray[Any], NDArray[Any]]:
    """float64 by the reference, and the stream's output in float64, with sources of these dtypes (the base's last)."""
    import torch

    method = METHODS[name]
    values = method.resolve(given, len(models))
    everyone = [np.ascontiguousarray(from_float32(x, d)) for x, d in zip([*models, base], dtypes, strict=True)]
    wide = [torch.from_numpy(to_float32(x, d).astype(np.float64)) for x, d in zip(everyone, dtypes, strict=True)]
    truth = method.reference(wide[:-1], wide[-1], {**values, "seed": 0, "name": "t"}).numpy()
    out = np.empty(base.size, NUMPY["F64"])

    def sink(start: int, part: NDArray[Any]) -> None:
        out[start : start + part.size] = part

    sources = [
        ArraySource(x.reshape(-1), d, f"model {i}") for i, (x, d) in enumerate(zip(everyone, dtypes, strict=True))
    ]
    stream = method.stream(Tensor("t", base.shape, len(models), values))
    stream_tensor(stream, sources[:-1], sources[-1], base.shape, "F64", sink, 128)
    return truth, out.reshape(base.shape)


SHAPES = st.lists(st.integers(0, 9), max_size=4).map(tuple)
DTYPES = st.lists(st.sampled_from(["F32", "BF16", "F16", "F64"]), min_size=4, max_size=4)


@pytest.mark.parametrize("name", DELTAS)
@settings(max_examples=25, deadline=None)
@given(shape=SHAPES, dtypes=DTYPES, seed=st.integers(0, 10**6), tied=st.booleans())
def test_any_shape_and_mixed_dtypes_agree_with_the_reference(
    name: str, shape: tuple[int, ...], dtypes: list[str], seed: int, tied: bool
) -> None:
    rng = np.random.default_rng(seed)
    make = (lambda: rng.integers(-3, 4, shape) / 8) if tied else (lambda: rng.normal(0, 0.5, shape))
    base = np.asarray(make(), np.float32)
    models = [np.asarray(base + 0.25 * make(), np.float32) for _ in range(3)]
    truth, found = reference_and_stream(name, models, base, dtypes, **shares(METHODS[name]))
    reach = np.abs(base) + sum(np.abs(x - base) for x in models)
    assert (np.abs(found - truth) <= 1e-6 * reach + 1e-12).all()


@pytest.mark.parametrize("name", DELTAS)
@pytest.mark.parametrize("shape", [(0,), (3, 0), (), (1,), (1, 1), (4, 1)])
def test_empty_and_one_element_tensors(name: str, shape: tuple[int, ...]) -> None:
    base = np.full(shape, 1.0, np.float32)
    models = [np.full(shape, 1.0 + step, np.float32) for step in (0.5, 0.25, -0.5)]
    found = merge_state(name, [{"t": x} for x in models], {"t": base}, shares(METHODS[name]))["t"]
    truth, _ = reference_and_stream(name, models, base, ["F32"] * 4, **shares(METHODS[name]))
    assert found.shape == shape and found.dtype == np.float32
    if name not in RANDOM:
        assert np.allclose(found, truth, atol=1e-6)


@pytest.mark.parametrize("name", DELTAS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_are_refused_with_the_tensor_named(name: str, bad: float) -> None:
    base = {"layer.3.mlp.weight": np.zeros((4, 5), np.float32), "fine": np.zeros(3, np.float32)}
    models = [{key: x + i for key, x in base.items()} for i in range(3)]
    models[1]["layer.3.mlp.weight"][2, 3] = bad
    with pytest.raises((UsageError, FindingsError), match=r"layer\.3\.mlp\.weight"):
        merge_state(name, models, base, shares(METHODS[name]))


@pytest.mark.parametrize("name", ["ties", "dare_linear", "dare_ties", "breadcrumbs", "breadcrumbs_ties", "della"])
@quick
@given(weights=st.lists(st.floats(-2, 2), min_size=3, max_size=3), scale=st.floats(-2, 2), seed=st.integers(0, 999))
def test_any_weights_agree_with_the_reference(name: str, weights: list[float], scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    base = rng.normal(0, 0.05, (6, 41)).astype(np.float32)
    models = [(base + rng.normal(0, 0.01, base.shape)).astype(np.float32) for _ in range(3)]
    given = {**shares(METHODS[name]), "weight": weights, "lambda": scale, "normalize": False}
    truth, found = reference_and_stream(name, models, base, ["F32"] * 4, **given)
    reach = np.abs(base) + sum(abs(w) * np.abs(x - base) for w, x in zip(weights, models, strict=True))
    assert (np.abs(found - truth) <= 1e-5 * reach).all()


def test_ties_keeps_at_least_one_element_and_breadcrumbs_may_keep_none() -> None:
    base, expert = np.zeros(3, np.float32), np.array([1.0, -3.0, 2.0], np.float32)
    kept = merge_state("ties", [{"t": expert}], {"t": base}, {"density": 0.1})["t"]
    assert kept.tolist() == [0.0, -3.0, 0.0]
    none = merge_state("breadcrumbs", [{"t": expert}], {"t": base}, {"density": 0.1, "weight": 1.0})["t"]
    assert none.tolist() == [0.0, 0.0, 0.0]


def test_breadcrumbs_without_outliers_to_drop_is_trimming() -> None:
    """A top cut of no elements must not lose the whole task vector, nor one that rounds down to none."""
    rng = np.random.default_rng(0)
    base, expert = np.zeros(40, np.float32), rng.normal(0, 1, 40).astype(np.float32)
    trimmed = merge_state("ties", [{"t": expert}], {"t": base}, {"density": 0.5})["t"]
    for gamma in (0.0, 0.01):
        found = merge_state(
            "breadcrumbs", [{"t": expert}], {"t": base}, {"density": 0.5, "gamma": gamma, "weight": 1.0}
        )
        assert np.array_equal(found["t"], trimmed)
    middle = merge_state("breadcrumbs", [{"t": expert}], {"t": base}, {"density": 0.5, "gamma": 0.1, "weight": 1.0})[
        "t"
    ]
    order = np.argsort(-np.abs(expert))
    assert np.flatnonzero(middle).tolist() == sorted(order[4:24].tolist())


@pytest.mark.parametrize("name", ["dare_linear", "dare_ties"])
def test_true_dare_divides_by_the_density(name: str) -> None:
    base = np.zeros(4000, np.float32)
    expert = np.random.default_rng(0).normal(0, 1, 4000).astype(np.float32)
    given = {"weight": 1.0, "density": 0.25, "rescale_by_density": True}
    found = merge_state(name, [{"t": expert}], {"t": base}, given, seed=3)["t"]
    mask = keep_mask(stream_key(3, name, 0, "t"), 4000, 0.25)
    assert np.array_equal(found, np.where(mask, expert * np.float32(4), np.float32(0)))
    by_norm = merge_state(name, [{"t": expert}], {"t": base}, {"weight": 1.0, "density": 0.25}, seed=3)["t"]
    assert np.array_equal(by_norm != 0, mask)
    assert abs(np.abs(by_norm).sum() / np.abs(expert).sum() - 1) < 1e-6


@pytest.mark.parametrize("name", RANDOM)
def test_random_methods_keep_their_share_and_their_norm(name: str) -> None:
    base = np.zeros((100, 400), np.float32)
    expert = np.random.default_rng(0).normal(0, 1, base.shape).astype(np.float32)
    for density in (0.2, 0.5, 0.8):
        found = merge_state(name, [{"t": expert}], {"t": base}, {"weight": 1.0, "density": density})["t"]
        assert abs(np.mean(found != 0) - density) < 0.01
        assert abs(np.abs(found).sum() / np.abs(expert).sum() - 1) < 1e-6


def test_sce_by_hand() -> None:
    """Two models: the half of the varying elements that varies most stays, weights are 4 to 1, minorities go."""
    base = np.zeros(6, np.float32)
    one = np.array([4.0, 0.1, 2.0, 0.2, 0.0, 1.0], np.float32)
    two = np.array([-2.0, 0.0, 1.0, 0.1, 0.0, 1.0], np.float32)
    found = merge_state("sce", [{"t": one}, {"t": two}], {"t": base}, {"select_topk": 0.5})["t"]
    squares = [16.0 + 4.0, 4.0 + 1.0]
    both = (squares[0] * 2.0 + squares[1] * 1.0) / sum(squares)
    assert np.allclose(found, [4.0, 0.0, both, 0.0, 0.0, 0.0])


def test_sce_takes_little_of_a_model_that_has_hardly_moved() -> None:
    """Shares below 1e-6 count as that, and where all squares together are below it the models weigh the same."""
    base = np.zeros(2, np.float32)
    states = [{"t": np.array([1.0, 0.0], np.float32)}, {"t": np.array([0.0, 1e-4], np.float32)}]
    found = merge_state("sce", states, {"t": base})["t"]
    assert np.allclose(found, [1.0, 1e-4 * 1e-8 / 1e-6], rtol=1e-5)
    equal = merge_state("sce", [{"t": base + np.float32(x)} for x in (1e-4, 3e-4)], {"t": base})["t"]
    assert np.allclose(equal, 2e-4, rtol=1e-5)


@pytest.mark.parametrize("wide", [np.float32, np.float64])
def test_norms_do_not_depend_on_where_blocks_begin(wide: type) -> None:
    rng = np.random.default_rng(0)
    rows, base = rng.normal(0, 1, (2, 3000)).astype(wide), rng.normal(0, 1, 3000).astype(wide)
    keep = rng.random((2, 3000)) < 0.5
    whole = np.zeros((2, 2, LANES))
    select.add_norms(rows, base, 0, keep, whole[0], whole[1])
    assert np.allclose(whole[1].sum(axis=1), (np.abs(rows - base) * keep).sum(axis=1), rtol=1e-6)
    parts = np.zeros((2, 2, LANES))
    for start, end in ((0, 5), (5, 70), (70, 71), (71, 1000), (1000, 3000)):
        part, mask = np.ascontiguousarray(rows[:, start:end]), np.ascontiguousarray(keep[:, start:end])
        select.add_norms(part, base[start:end], start, mask, parts[0], parts[1])
    assert parts.tobytes() == whole.tobytes()


def test_ram_by_hand() -> None:
    base = np.ones(4, np.float32)
    deltas = np.array([[0.5, 0.0, 1e-6, 0.25], [0.0, 0.0, 0.0, 0.75], [0.0, -0.5, 0.0, 0.0]], np.float32)
    states = [{"t": base + d} for d in deltas]
    assert merge_state("ram", states, {"t": base})["t"].tolist() == [1.5, 0.5, 1.0, 1.5]
    larger = merge_state("ramplus_tl", states, {"t": base}, {"r": 0.5, "alpha": 1.0})["t"]
    assert larger.tolist() == [1.75, 0.5, 1.0, 1.5]
    capped = merge_state("ramplus_tl", states, {"t": base}, {"r": 0.5, "alpha": 0.5})["t"]
    assert capped.tolist() == [1.625, 0.5, 1.0, 1.5]


@pytest.mark.parametrize(("density", "epsilon"), [(0.1, 0.15), (0.9, 0.1), (0.5, 0.5)])
def test_della_refuses_probabilities_outside_0_to_1(density: float, epsilon: float) -> None:
    for name in ("della", "della_linear"):
        with pytest.raises(FindingsError, match="choose an epsilon below"):
            METHODS[name].resolve({"density": [0.5, density], "epsilon": [0.1, epsilon]}, 2)
    METHODS["della"].resolve({"density": [0.0, 1.0], "epsilon": 0.4}, 2)


def through(stream: Any, rows: NDArray[Any], base: NDArray[Any], block: int) -> tuple[NDArray[Any], int]:
    """The result of a stream, and how many passes it took."""
    out = np.empty(base.size, np.float32)

    def sink(start: int, part: NDArray[Any]) -> None:
        out[start : start + part.size] = part

    sources = [ArraySource(x, "F32", f"model {i}") for i, x in enumerate([*rows, base])]
    stream_tensor(stream, sources[:-1], sources[-1], base.shape, "F32", sink, block)
    return out, stream.passes


def unlooking(stream: Any) -> Any:
    stream.looks = False
    return stream


LARGE = {
    "even": lambda rng, n: rng.normal(0, 1, n),
    "mostly unmoved": lambda rng, n: rng.normal(0, 1, n) * (rng.random(n) < 0.3),
    "tied": lambda rng, n: rng.integers(-40, 41, n) / 64,
    "all tied": lambda rng, n: np.full(n, rng.integers(1, 9) / 8),
    "unmoved": lambda rng, n: np.zeros(n),
    "misleading": lambda rng, n: rng.normal(0, 1, n) * np.where(np.arange(n) * 70 // n % 10 == 0, 1.0, 50.0),
}


@pytest.mark.parametrize("kind", LARGE)
@pytest.mark.parametrize("name", ["ties", "breadcrumbs", "sce"])
def test_a_sample_changes_the_passes_and_nothing_else(kind: str, name: str) -> None:
    size = 4 * SAMPLE + 777
    base = np.zeros(size, np.float32)
    rows = np.stack([LARGE[kind](np.random.default_rng(i), size) for i in range(2)]).astype(np.float32)
    rest = METHODS[name].stream(Tensor("t", (8,), 2, METHODS[name].resolve(shares(METHODS[name]), 2))).passes - 2
    all_passes = set()
    for density in (0.02, 0.5, 0.97):
        key = "select_topk" if name == "sce" else "density"
        values = METHODS[name].resolve({**shares(METHODS[name]), key: density}, 2)
        tensor = Tensor("t", base.shape, 2, values)
        slow, passes = through(unlooking(METHODS[name].stream(tensor)), rows, base, 1 << 17)
        assert passes == 2 + rest
        quick_passes = set()
        for block in (1 << 17, 9024):
            fast, passes = through(METHODS[name].stream(tensor), rows, base, block)
            assert fast.tobytes() == slow.tobytes(), (density, block)
            quick_passes.add(passes - rest)
        assert len(quick_passes) == 1
        all_passes |= quick_passes
    one = 1 - rest if name == "sce" else 1  # SCE weighs in the same pass, where the sample says where to look
    if kind in ("even", "tied", "mostly unmoved", "unmoved"):
        assert one in all_passes and all_passes <= {one, 1}
    else:
        assert 3 in all_passes and all_passes <= {one, 1, 3}


@quick
@given(st.lists(st.integers(0, 0x7F7FFFFF), min_size=1, max_size=300), st.floats(0, 1))
def test_the_kth_largest_magnitude_is_that_of_a_sort(values: list[int], where: float) -> None:
    bits = np.array(values + values[: len(values) // 2], np.uint32)
    k = 1 + int(where * (bits.size - 1))
    first = min(values) - min(values) % 7
    threshold, spare = kth_largest(bits, k, first, max(values) - first + 1)
    assert threshold == np.sort(bits)[-k]
    assert spare == k - np.count_nonzero(bits > threshold)


@pytest.mark.parametrize("size", [1, 64, SAMPLE, SAMPLE + 1, 10**6, 10**9 + 7])
@pytest.mark.parametrize("block", [64, 9024, 1 << 17])
def test_a_sample_is_spread_over_the_tensor(size: int, block: int) -> None:
    pieces = sample_pieces(size, block)
    assert all(start % LANES == 0 and 0 < end - start <= block and end <= size for start, end in pieces)
    assert sum(end - start for start, end in pieces) == min(size, SAMPLE)
    assert pieces[0][0] == 0 and pieces[-1][1] > size - LANES
    assert all(one[1] <= two[0] for one, two in pairwise(pieces))
