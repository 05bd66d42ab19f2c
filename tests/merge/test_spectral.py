"""What the methods of whole matrices promise beyond the contract (test_methods.py)."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tunemerge.merge import runner
from tunemerge.merge.memory import merge, merge_state
from tunemerge.merge.method import METHODS
from tunemerge.merge.plan import Input, MergePlan, TensorPlan
from tunemerge.merge.spectral import MATRIX_BYTES, one_thread, polar, svd
from tunemerge.testing.methods import by_kernel

SPECTRAL = ("iso_c", "iso_cts", "tsv_m", "wudi")
Matrix = NDArray[np.float64]


def merged(name: str, deltas: Sequence[Matrix], **given: Any) -> Matrix:
    """The merged task matrix: the base is zero."""
    return by_kernel(METHODS[name], [np.asarray(d) for d in deltas], np.zeros_like(deltas[0]), "F64", given)


def matrix(rows: int, columns: int, seed: int, rank: int | None = None, scale: float = 1e-3) -> Matrix:
    rng = np.random.default_rng(seed)
    full = rank or min(rows, columns)
    return scale * rng.normal(size=(rows, full)) @ rng.normal(size=(full, columns)) / full**0.5


def values(of: Matrix) -> Matrix:
    return np.linalg.svd(of, compute_uv=False)


@pytest.mark.parametrize("shape", [(40, 40), (300, 20), (20, 300), (7, 1), (1, 7), (1, 1)])
def test_svd_has_the_singular_values_and_vectors_of_numpy(shape: tuple[int, int]) -> None:
    given = matrix(*shape, 0)
    left, sizes, right = (part.numpy() for part in svd(torch.from_numpy(given)))
    np.testing.assert_allclose(sizes, values(given), rtol=1e-9)
    np.testing.assert_allclose(left * sizes @ right.T, given, atol=1e-17)
    np.testing.assert_allclose(left.T @ left, np.eye(len(sizes)), atol=1e-9)
    u, _, vt = np.linalg.svd(given, full_matrices=False)
    np.testing.assert_allclose(polar(torch.from_numpy(given)).numpy(), u @ vt, atol=1e-9)


@pytest.mark.parametrize("shape", [(40, 40), (90, 40), (40, 90)])
def test_directions_without_length_have_no_vectors(shape: tuple[int, int]) -> None:
    low = torch.from_numpy(matrix(*shape, 0, rank=5))
    assert [tuple(part.shape) for part in svd(low)] == [(shape[0], 5), (5,), (shape[1], 5)]
    spectrum = values(polar(low).numpy())
    np.testing.assert_allclose(spectrum[:5], 1, rtol=1e-9)
    np.testing.assert_allclose(spectrum[5:], 0, atol=1e-9)
    assert svd(torch.zeros(shape, dtype=torch.float64))[1].numel() == 0


@pytest.mark.parametrize("shape", [(30, 30), (80, 30), (30, 80)])
def test_iso_c_has_a_flat_spectrum_at_the_mean_of_the_sum(shape: tuple[int, int]) -> None:
    deltas = [matrix(*shape, seed) for seed in range(3)]
    found = merged("iso_c", deltas)
    np.testing.assert_allclose(values(found), values(sum(deltas)).mean(), rtol=1e-9)
    assert (found * sum(deltas)).sum() > 0


def test_iso_c_gives_nothing_to_directions_that_no_task_has() -> None:
    deltas = [matrix(30, 40, seed, rank=4) for seed in range(3)]
    spectrum = values(merged("iso_c", deltas))
    np.testing.assert_allclose(spectrum[:12], values(sum(deltas)).sum() / 30, rtol=1e-9)
    np.testing.assert_allclose(spectrum[12:], 0, atol=1e-15)


def test_iso_cts_of_one_common_space_is_iso_c() -> None:
    deltas = [matrix(30, 20, seed) for seed in range(3)]
    np.testing.assert_allclose(merged("iso_cts", deltas, common=1.0), merged("iso_c", deltas), atol=1e-13)


@pytest.mark.parametrize("common", [0.0, 0.4, 0.8])
def test_iso_cts_has_a_flat_spectrum(common: float) -> None:
    spectrum = values(merged("iso_cts", [matrix(32, 40, seed) for seed in range(3)], common=common))
    np.testing.assert_allclose(spectrum, spectrum[0], rtol=1e-9)


def test_iso_cts_hears_a_task_that_the_sum_drowns() -> None:
    quiet = matrix(32, 32, 1, rank=4, scale=1e-6)
    deltas = [matrix(32, 32, 0), quiet, matrix(32, 32, 2)]

    def heard(found: Matrix) -> float:
        return float((found * quiet).sum() / np.linalg.norm(found) / np.linalg.norm(quiet))

    assert heard(merged("iso_cts", deltas, common=0.2)) > 0.1 > 3 * heard(merged("iso_c", deltas))


@pytest.mark.parametrize("shape", [(24, 24), (60, 24), (24, 60)])
def test_tsv_m_adds_up_low_ranks_with_orthogonal_supports(shape: tuple[int, int]) -> None:
    """Each task has its own rows and columns and at most a third of the rank: nothing is cut, nothing turned."""
    deltas = []
    for task in range(3):
        delta = np.zeros(shape)
        delta[task::3, task::3] = matrix(*delta[task::3, task::3].shape, task)
        deltas.append(delta)
    np.testing.assert_allclose(merged("tsv_m", deltas), sum(deltas), atol=1e-15)


def test_tsv_m_cuts_each_task_to_its_share_of_the_rank() -> None:
    delta = matrix(20, 30, 0)
    u, s, vt = np.linalg.svd(delta, full_matrices=False)
    copies = merged("tsv_m", [delta] * 4)
    np.testing.assert_allclose(copies, u[:, :5] * s[:5] @ vt[:5], atol=1e-13)
    np.testing.assert_allclose(merged("tsv_m", [delta]), delta, atol=1e-15)


def test_tsv_m_makes_directions_that_tasks_share_orthogonal() -> None:
    """Two rank-1 tasks with left vectors at an angle: both turn away from each other by the same."""
    a, b = np.array([1.0, 0.0]), np.array([np.cos(0.4), np.sin(0.4)])
    right = np.eye(2)
    found = merged("tsv_m", [np.outer(a, right[0]), np.outer(b, right[1])])
    turn = (np.pi / 2 - 0.4) / 2
    expected = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    np.testing.assert_allclose(found, expected, atol=1e-15)


def test_tsv_m_of_more_tasks_than_directions_keeps_one_each() -> None:
    found = merged("tsv_m", [matrix(2, 9, seed) for seed in range(5)])
    assert np.linalg.matrix_rank(found) == 2


def interference(t: Matrix, deltas: Sequence[Matrix]) -> float:
    return sum(float((((t - d) @ d.T) ** 2).sum() / (d**2).sum()) for d in deltas)


@pytest.mark.parametrize("shape", [(20, 20), (50, 20), (20, 50), (4, 60)])
def test_wudi_lowers_its_objective_below_the_sum_and_the_mean(shape: tuple[int, int]) -> None:
    deltas = [matrix(*shape, seed, rank=4) for seed in range(3)]
    steps = [interference(merged("wudi", deltas, iterations=count), deltas) for count in (0, 30, 100, 300)]
    assert steps == sorted(steps, reverse=True)
    np.testing.assert_allclose(steps[0], interference(sum(deltas), deltas), rtol=1e-12)
    assert steps[-1] < 0.2 * min(steps[0], interference(sum(deltas) / 3, deltas))


def test_wudi_stays_at_the_sum_where_tasks_do_not_interfere() -> None:
    deltas = [np.zeros((6, 9)) for _ in range(3)]
    for task in range(3):
        deltas[task][:, task::3] = matrix(6, 3, task)
    np.testing.assert_allclose(merged("wudi", deltas), sum(deltas), atol=1e-12)


def test_wudi_averages_embedding_tables() -> None:
    names = ["embeddings.word_embeddings.weight", "wte.weight", "shared.weight", "embed_out.weight", "dense.weight"]
    models = [{name: matrix(8, 5, seed) for name in names} for seed in range(2)]
    base = {name: np.zeros((8, 5)) for name in names}
    found = merge_state("wudi", models, base)
    averaged = [np.allclose(found[name], (models[0][name] + models[1][name]) / 2, atol=1e-15) for name in names]
    assert averaged == [True, True, True, False, False]


@pytest.mark.parametrize("name", SPECTRAL)
def test_other_tensors_get_the_mean_of_task_vectors(name: str) -> None:
    rng = np.random.default_rng(0)
    for shape in [(7,), (), (2, 3, 4)]:
        base, *models = (np.asarray(rng.normal(size=shape)) for _ in range(4))
        found = by_kernel(METHODS[name], models, base, "F64", {"lambda": 0.5})
        np.testing.assert_allclose(found, base + 0.5 * (sum(models) / 3 - base), atol=1e-15)


@pytest.mark.parametrize("name", ["iso_c", "iso_cts", "tsv_m"])
def test_the_result_turns_with_the_matrices(name: str) -> None:
    """No basis of rows or columns is special: signs, order, rotations. (WUDI's Adam takes steps an element.)"""
    rng = np.random.default_rng(0)
    deltas = [matrix(18, 12, seed) for seed in range(3)]
    q, _ = np.linalg.qr(rng.normal(size=(18, 18)))
    flips = np.diag(rng.choice([-1.0, 1.0], 12))
    found = merged(name, [q @ d @ flips for d in deltas])
    np.testing.assert_allclose(found, q @ merged(name, deltas) @ flips, atol=1e-12)


@pytest.mark.parametrize("name", SPECTRAL)
def test_bits_do_not_depend_on_threads(name: str) -> None:
    states = [{"a": matrix(90, 70, seed), "b": matrix(70, 90, seed + 5)} for seed in range(3)]
    base = {"a": matrix(90, 70, 8), "b": matrix(70, 90, 9)}
    given = {"iterations": 10} if name == "wudi" else {}
    before = torch.get_num_threads()
    found = []
    try:
        for torch_threads in (1, 2, 4):
            torch.set_num_threads(torch_threads)
            for threads in (1, 2, 8):
                out = merge_state(name, states, base, given, threads=threads)
                found.append(b"".join(array.tobytes() for array in out.values()))
            assert torch.get_num_threads() == torch_threads
    finally:
        torch.set_num_threads(before)
    assert len(set(found)) == 1


def test_one_thread_is_one_thread_until_the_last_leaves() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with one_thread():
            with one_thread():
                assert torch.get_num_threads() == 1
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_merge_of_modules_takes_a_device() -> None:
    base = torch.nn.Linear(6, 4)
    models = [torch.nn.Linear(6, 4) for _ in range(2)]
    one = merge("iso_c", models, base=base)
    other = merge("iso_c", models, base=base, device="cpu")
    torch.testing.assert_close(one["weight"], other["weight"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", SPECTRAL)
def test_a_gpu_gives_what_the_cpu_gives(name: str) -> None:
    states = [{"a": matrix(90, 70, seed)} for seed in range(3)]
    base = {"a": matrix(90, 70, 8)}
    given = {"iterations": 30} if name == "wudi" else {}
    one, other = (merge_state(name, states, base, given, device=device)["a"] for device in ("cpu", "cuda"))
    np.testing.assert_allclose(one, other, atol=1e-12)


def test_matrices_at_work_share_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    room = runner._Room(100)
    held, most, guard = 0, 0, threading.Lock()

    def work(size: int) -> None:
        nonlocal held, most
        with room.take(size):
            with guard:
                held += size
                most = max(most, held)
            time.sleep(0.002)
            with guard:
                held -= size

    threads = [threading.Thread(target=work, args=(size,)) for size in (60, 40, 30, 70, 50, 10, 90) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 60 < most <= 100
    with room.take(500):
        pass

    monkeypatch.setattr(runner, "ROOM", 1)
    states = [{f"w{i}": matrix(9, 7, seed + i) for i in range(6)} for seed in range(2)]
    out = merge_state("tsv_m", states, states[0], threads=4)
    assert set(out) == set(states[0])


def test_memory_is_that_of_the_largest_matrix_or_the_limit() -> None:
    def needed(side: int, threads: int) -> int:
        method = METHODS["iso_c"]
        tensors = tuple(
            TensorPlan(n, shape, "F32", method, (Input(0, n), Input(1, n)), Input(2, n), method.resolve({}, 2))
            for n, shape in (("w", (side, side)), ("b", (side,)))
        )
        return runner.buffer_bytes(MergePlan(("a", "b", "base"), tensors, 0), threads)

    assert needed(20_000, 1) > MATRIX_BYTES * 20_000**2
    assert needed(20_000, 16) < 1.1 * needed(20_000, 1)
    assert needed(1000, 16) < 16 * needed(1000, 1) + runner.ROOM
