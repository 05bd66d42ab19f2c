from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from lora_files import conv, dense, embedding, linear, random, write_lora
from tunemerge.checkpoint.adapter import Adapter, open_adapter
from tunemerge.checkpoint.dtypes import to_float32
from tunemerge.errors import UsageError
from tunemerge.findings import FindingsError
from tunemerge.merge.lora.files import merge_adapters
from tunemerge.merge.lora.mix import Mix
from tunemerge.merge.lora.products import knots, recompress
from tunemerge.merge.method import METHODS

SHAPES = {"q": (30, 20), "k": (12, 20)}


def delta(adapter: Adapter, module: str) -> np.ndarray:
    """The change of one module, dense and in float64, from the adapter's own file."""
    product = adapter.products[module]
    kind = "lora_embedding_{}" if product.embedding else "lora_{}.weight"
    factors = {kind.format(x): adapter.read(name) for x, name in (("A", product.a), ("B", product.b))}
    return dense(factors, product.scale)


def three(tmp_path: Path) -> list[Path]:
    """Adapters that differ in rank, alpha, target modules and precision."""
    return [
        write_lora(tmp_path / "one", {n: linear(*s, rank=3, seed=i) for i, (n, s) in enumerate(SHAPES.items())}),
        write_lora(tmp_path / "two", {"q": linear(30, 20, rank=5, seed=7)}, use_rslora=True, lora_alpha=3),
        write_lora(
            tmp_path / "three", {"k": linear(12, 20, rank=2, seed=8)}, dtype="bfloat16", base_model_name_or_path=""
        ),
    ]


def merged(adapters: list[Path], **mix: Any) -> Adapter:
    out = adapters[0].parent / "out"
    merge_adapters(adapters, out, Mix(**mix))
    return open_adapter(out)


def weighted(adapters: list[Path], weights: list[float], module: str) -> np.ndarray:
    opened = [open_adapter(path) for path in adapters]
    terms = [w * delta(a, module) for w, a in zip(weights, opened, strict=True) if module in a.products]
    return np.sum(terms, axis=0)


def truncated(matrix: np.ndarray, rank: int) -> np.ndarray:
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ v[:rank]


def assert_close(found: np.ndarray, exact: np.ndarray) -> None:
    np.testing.assert_allclose(found, exact, atol=3e-6 * np.abs(exact).max())


@pytest.mark.parametrize(
    "mix",
    [
        {"method": "cat"},
        {"method": "svd"},
        {"method": "svd", "energy": 1.0},
        {"method": "knots", "parameters": {"density": 1.0}},
        {"method": "knots", "rule": "task_arithmetic"},
    ],
)
def test_one_adapter_at_weight_one_is_itself(tmp_path: Path, mix: dict[str, Any]) -> None:
    modules = {"q": linear(30, 20), "embed": embedding(40, 8, seed=1), "c": conv(6, 5, (3, 3), seed=2)}
    folder = write_lora(tmp_path / "one", modules, lora_alpha=6)
    found = merged([folder], weights=(1.0,), **mix)
    for module, factors in modules.items():
        assert found.products[module].rank == 4
        assert_close(delta(found, module), dense(factors, 1.5))
    if mix["method"] == "cat":
        assert np.array_equal(found.read(found.products["q"].a), modules["q"]["lora_A.weight"])


def test_cat_is_the_sum(tmp_path: Path) -> None:
    adapters = three(tmp_path)
    found = merged(adapters, weights=(0.5, -2.0, 0.3))
    assert {module: p.rank for module, p in found.products.items()} == {"q": 8, "k": 5}
    for module in SHAPES:
        assert_close(delta(found, module), weighted(adapters, [0.5, -2.0, 0.3], module))
    config = json.loads((found.folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "org/base" and config["use_rslora"] is False
    assert found.record["operation"] == "merge-lora" and found.record["weights"] == [0.5, -2.0, 0.3]
    assert [len(entry["files"]["adapter_model.safetensors"]) for entry in found.record["adapters"]] == [64] * 3
    equal = merged(adapters)
    assert_close(delta(equal, "q"), weighted(adapters, [1 / 3] * 3, "q"))


@pytest.mark.parametrize("rank", [1, 4, None])
def test_svd_is_the_best_of_its_rank(tmp_path: Path, rank: int | None) -> None:
    adapters = three(tmp_path)
    found = merged(adapters, method="svd", weights=(1.0, 1.0, 1.0), rank=rank)
    for module, kept in (("q", rank or 5), ("k", rank or 3)):
        assert found.products[module].rank == kept
        assert_close(delta(found, module), truncated(weighted(adapters, [1, 1, 1], module), kept))
    product = found.products["q"]
    sizes = [np.linalg.norm(found.read(product.a), axis=1), np.linalg.norm(found.read(product.b), axis=0)]
    np.testing.assert_allclose(*sizes, rtol=1e-5)


def test_svd_by_energy(tmp_path: Path) -> None:
    adapters = three(tmp_path)
    found = merged(adapters, method="svd", weights=(1.0, 1.0, 1.0), energy=0.8)
    for module in SHAPES:
        share = np.cumsum(np.linalg.svd(weighted(adapters, [1, 1, 1], module), compute_uv=False) ** 2)
        assert found.products[module].rank == int((share < 0.8 * share[-1]).sum()) + 1


def dense_knots(deltas: list[np.ndarray], rule: str, values: dict[str, Any]) -> np.ndarray:
    """KnOTS as in the paper, on whole matrices, with the method's reference."""
    import torch

    u, s, v = np.linalg.svd(np.concatenate(deltas, axis=1), full_matrices=False)
    keep = s > 1e-9
    parts = np.split(s[keep, None] * v[keep], len(deltas), axis=1)
    tensors = [torch.from_numpy(part.copy()) for part in parts]
    method = METHODS[rule]
    resolved = {**method.resolve(values, len(deltas)), "seed": 0, "name": "q.weight"}
    return u[:, keep] @ method.reference(tensors, torch.zeros_like(tensors[0]), resolved).numpy()


@pytest.mark.parametrize(
    ("rule", "values"),
    [
        ("ties", {"density": 0.3, "normalize": True}),
        ("ties", {"density": 0.5, "weight": [1.0, 0.4], "lambda": 0.8}),
        ("task_arithmetic", {"weight": [0.7, 0.6]}),
        ("breadcrumbs", {"density": 0.6, "gamma": 0.1}),
    ],
)
def test_knots_is_the_paper_s_on_whole_matrices(tmp_path: Path, rule: str, values: dict[str, Any]) -> None:
    adapters = three(tmp_path)[:2]
    given = {name: value for name, value in values.items() if name != "weight"}
    weights = tuple(values["weight"]) if "weight" in values else None
    found = merged(adapters, method="knots", rule=rule, parameters=given, weights=weights)
    deltas = [delta(open_adapter(path), "q") for path in adapters]
    exact = dense_knots(deltas, rule, values)
    assert_close(delta(found, "q"), exact)
    # The merge is not that of the matrices as they are: alignment does something.
    plain = {**METHODS[rule].resolve(values, 2), "seed": 0, "name": "q.weight"}
    import torch

    unaligned = METHODS[rule].reference([torch.from_numpy(d) for d in deltas], torch.zeros(30, 20), plain).numpy()
    assert rule == "task_arithmetic" or np.abs(unaligned - exact).max() > 0.1
    small = merged(adapters, method="knots", rule=rule, parameters=given, weights=weights, rank=2)
    assert small.products["q"].rank == 2
    assert_close(delta(small, "q"), truncated(exact, 2))


def test_a_module_that_an_adapter_lacks_is_zero_in_knots(tmp_path: Path) -> None:
    adapters = three(tmp_path)
    found = merged(adapters, method="knots", parameters={"density": 0.5})
    deltas = [delta(open_adapter(path), "k") if i != 1 else np.zeros((12, 20)) for i, path in enumerate(adapters)]
    assert_close(delta(found, "k"), dense_knots(deltas, "ties", {"density": 0.5}))


def test_random_rules_follow_the_seed(tmp_path: Path) -> None:
    adapters = three(tmp_path)[:2]
    mix = {"method": "knots", "rule": "dare_ties", "parameters": {"density": 0.5}}
    first, again, other = (delta(merged(adapters, seed=seed, **mix), "q") for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_factors_without_a_change(tmp_path: Path) -> None:
    nothing = recompress((np.zeros((6, 2)), np.ones((2, 5))))
    assert nothing[0].shape == (6, 0) and nothing[1].shape == (0, 5)
    b, a = knots([(np.zeros((6, 2)), np.ones((2, 5)))] * 2, lambda parts: parts[0])
    assert b.shape == (6, 0) and a.shape == (0, 5)
    still = {"lora_A.weight": random((2, 20), 1), "lora_B.weight": np.zeros((30, 2), np.float32)}
    one = write_lora(tmp_path / "one", {"q": linear(30, 20), "v": still}, rank_pattern={"v": 2})
    assert merged([one], method="svd").products.keys() == {"q"}
    with pytest.raises(UsageError, match="changes no weight"):
        merged([write_lora(tmp_path / "two", {"v": still})], method="svd")


def test_biases_of_layers_are_added(tmp_path: Path) -> None:
    biases = [random((30,), 5), random((30,), 6)]
    adapters = [
        write_lora(tmp_path / f"{i}", {"q": linear(30, 20, seed=i) | {"lora_B.bias": bias}}, lora_bias=True)
        for i, bias in enumerate(biases)
    ]
    found = merged(adapters, method="svd", weights=(0.5, 2.0))
    name = found.products["q"].bias
    assert name is not None and json.loads((found.folder / "adapter_config.json").read_text())["lora_bias"] is True
    np.testing.assert_allclose(found.read(name), 2 * (0.5 * biases[0] + 2 * biases[1]), rtol=1e-6)


def test_whole_tensors(tmp_path: Path) -> None:
    heads = [random((2, 20), 5), random((2, 20), 6)]
    norm = random((20,), 7)
    adapters = [
        write_lora(
            tmp_path / f"{i}",
            {"q": linear(30, 20, seed=i)},
            saved={"score.weight": head, "norm.weight": norm},
            modules_to_save=["score", "norm"],
            dtype="bfloat16",
        )
        for i, head in enumerate(heads)
    ]
    found = merged(adapters, weights=(0.25, 0.75))
    rounded = [to_float32(open_adapter(a).raw("base_model.model.score.weight"), "BF16") for a in adapters]
    np.testing.assert_allclose(
        found.read(found.saved["score.weight"]), 0.25 * rounded[0] + 0.75 * rounded[1], rtol=1e-6, atol=1e-6
    )
    assert found.tensors[found.saved["norm.weight"]].dtype == "BF16"
    assert np.array_equal(
        found.raw(found.saved["norm.weight"]), open_adapter(adapters[0]).raw("base_model.model.norm.weight")
    )
    assert json.loads((found.folder / "adapter_config.json").read_text())["modules_to_save"] == ["norm", "score"]
    with pytest.raises(FindingsError, match=r"'score.weight' is kept whole and differs, and the weights sum to 2"):
        merged(adapters, weights=(1.0, 1.0))
    few = write_lora(tmp_path / "few", {"q": linear(30, 20)}, saved={"score.weight": random((3, 20), 1)})
    with pytest.raises(FindingsError) as caught:
        merged([*adapters, few])
    assert "'score.weight' is kept whole in other shapes" in str(caught.value)
    assert "'norm.weight' is kept whole in 2 of 3 adapters" in str(caught.value)


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        ({"weights": (1.0,)}, "1 weights for 2 adapters"),
        ({"weights": (1.0, float("nan"))}, "must be numbers"),
        ({"rank": 3}, "cat is exact"),
        ({"method": "svd", "rank": 0}, "at least 1, not 0"),
        ({"method": "svd", "energy": 2.0}, r"\(0, 1\], not 2.0"),
        ({"method": "svd", "parameters": {"density": 0.2}}, "density: parameters of a rule, which only knots applies"),
        ({"method": "knots", "rule": "tiess"}, "did you mean 'ties'"),
        ({"method": "knots", "rule": "linear"}, "needs a task-vector method"),
        ({"method": "knots", "parameters": {"densty": 0.2}}, "density"),
    ],
)
def test_a_wrong_request_is_refused(tmp_path: Path, mix: dict[str, Any], message: str) -> None:
    adapters = three(tmp_path)[:2]
    with pytest.raises(UsageError, match=message):
        merged(adapters, **mix)
    assert not (tmp_path / "out").exists()


def test_different_bases_are_refused(tmp_path: Path) -> None:
    def make(name: str, base: str, fingerprint: str | None = None, shape: tuple[int, int] = (30, 20)) -> Path:
        folder = write_lora(tmp_path / name, {"q": linear(*shape)}, base_model_name_or_path=base)
        if fingerprint:
            (folder / "tunemerge_adapter.json").write_text(json.dumps({"base": {"fingerprint": fingerprint}}))
        return folder

    one = make("one", "org/base")
    with pytest.raises(FindingsError) as caught:
        merged([one, make("two", "org/other"), make("three", "", shape=(30, 21))])
    text = str(caught.value)
    assert "it was trained on 'org/other', and" in text and "write one of them into both" in text
    assert "changes 'q' by [30, 21], and" in text
    merged([one, make("local", "/models/base")])
    printed = make("printed", "org/base", "aa")
    merged([printed, make("same", "/elsewhere/b", "aa")])
    with pytest.raises(FindingsError, match=r"merge adapters of one base$"):
        merged([printed, make("unlike", "org/base", "bb")])
    with pytest.raises(UsageError, match="one of the inputs"):
        merge_adapters([one], one)


def test_the_commands(tmp_path: Path, make_model: Any) -> None:
    from tunemerge.cli.app import app

    base = {"q.weight": random((30, 20), 1), "norm.weight": random((20,), 2), "pos": random((3, 20), 3)}
    tuned = {"q.weight": base["q.weight"] + dense(linear(30, 20, rank=2), 0.1), "pos": base["pos"] + 1}
    tuned = {**base, **{name: array.astype(np.float32) for name, array in tuned.items()}}
    there, here = make_model("tuned", state=tuned, config={}), make_model("base", state=base, config={})
    out = tmp_path / "lora"
    run = CliRunner().invoke(app, ["extract-lora", str(there), str(out), "--base", str(here), "--rank", "2"])
    assert run.exit_code == 0, run.output
    assert "q.weight" in run.output and "1.0000" in run.output and "100 numbers in the adapter" in run.output
    assert "not in the adapter: 1 tensors that changed: pos [3, 20]" in run.output
    both = tmp_path / "both"
    arguments = [str(out), str(out), str(both), "--weight", "1", "--weight", "-0.5"]
    run = CliRunner().invoke(app, ["merge-lora", *arguments])
    assert run.exit_code == 0 and "1 modules, rank 4" in run.output, run.output
    assert_close(delta(open_adapter(both), "q"), 0.5 * delta(open_adapter(out), "q"))
    run = CliRunner().invoke(app, ["merge-lora", *arguments, "--method", "knots", "-s", "density=0.5", "--rank", "1"])
    assert run.exit_code == 0 and "rank 1" in run.output, run.output
    assert open_adapter(both).record["parameters"] == {"density": 0.5}
    run = CliRunner().invoke(app, ["merge-lora", *arguments, "--method", "knot"])
    assert run.exit_code == 2 and "did you mean 'knots'" in run.output
