from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_files import conv, dense, embedding, linear, random, values, write_lora
from tunemerge.checkpoint.adapter import open_adapter
from tunemerge.checkpoint.dtypes import from_float32, to_float32
from tunemerge.checkpoint.fingerprint import fingerprint
from tunemerge.checkpoint.source import ArrayModel
from tunemerge.errors import UsageError
from tunemerge.findings import FindingsError
from tunemerge.merge.lora.adapted import AdaptedModel
from tunemerge.merge.lora.kernel import add_product


def adapted(state: dict[str, np.ndarray], folder: Path, label: str = "org/base") -> AdaptedModel:
    return AdaptedModel(ArrayModel(label, state), open_adapter(folder))


def assert_rounded_once(found: np.ndarray, exact: np.ndarray) -> None:
    """The nearest float32 of the float64 truth; sums of float64 in another order may fall beside a boundary."""
    assert found.dtype == np.float32
    expected = exact.astype(np.float32)
    assert (np.abs(found.astype(np.float64) - expected) <= np.spacing(np.abs(expected))).all()
    assert (found == expected).mean() > 0.999


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
def test_weights_are_w_plus_scale_b_a(tmp_path: Path, dtype: str, stored: str) -> None:
    shape = (37, 700)  # more than a tile of columns, and a rest of it
    modules = {"m.q": linear(*shape, rank=6, seed=1), "m.embed": embedding(50, 9, rank=6, seed=2)}
    folder = write_lora(tmp_path / "a", modules, dtype=stored, lora_alpha=9)
    raw = {
        "m.q.weight": from_float32(random(shape, 3), dtype),
        "m.embed.weight": from_float32(random((50, 9), 4), dtype),
        "norm.weight": from_float32(random((9,), 5), dtype),
    }
    model = adapted(raw, folder)
    adapter = open_adapter(folder)
    assert list(model.tensors) == sorted(raw)
    for module in modules:
        product, name = adapter.products[module], f"{module}.weight"
        factors = {end: adapter.read(f"base_model.model.{module}.{end}") for end in modules[module]}
        exact = to_float32(raw[name], dtype).astype(np.float64) + dense(factors, 9 / 6)
        assert model.tensors[name].dtype == "F32" and product.scale == 1.5
        assert_rounded_once(values(model, name), exact)
    assert model.tensors["norm.weight"].dtype == dtype and np.array_equal(
        values(model, "norm.weight"), raw["norm.weight"]
    )


def test_float64_stays_float64(tmp_path: Path) -> None:
    modules = {"q": linear(7, 11, seed=1)}
    wide = {"q.weight": np.random.default_rng(0).standard_normal((7, 11))}
    model = adapted(wide, write_lora(tmp_path / "a", modules))
    assert model.tensors["q.weight"].dtype == "F64"
    np.testing.assert_allclose(values(model, "q.weight"), wide["q.weight"] + dense(modules["q"], 2), rtol=1e-14)
    narrow = {"q.weight": random((7, 11), 3)}
    model = adapted(narrow, write_lora(tmp_path / "b", modules, dtype="float64"))
    assert model.tensors["q.weight"].dtype == "F64"
    np.testing.assert_allclose(values(model, "q.weight"), narrow["q.weight"] + dense(modules["q"], 2), rtol=1e-14)


def test_convolutions(tmp_path: Path) -> None:
    shapes = {"c1": (6, 5, 7), "c2": (6, 5, 3, 3), "point": (6, 5, 1, 1)}
    modules = {name: conv(*shape[:2], shape[2:], seed=i) for i, (name, shape) in enumerate(shapes.items())}
    state = {f"{name}.weight": random(shape, i + 9) for i, (name, shape) in enumerate(shapes.items())}
    model = adapted(state, write_lora(tmp_path / "a", modules))
    for name in shapes:
        exact = state[f"{name}.weight"] + dense(modules[name], 2)
        assert_rounded_once(values(model, f"{name}.weight"), exact)


@pytest.mark.parametrize("said", [True, False])
def test_conv1d_of_gpt2_is_turned_even_where_it_is_square(tmp_path: Path, said: bool) -> None:
    """mergekit writes fan_in_fan_out false for GPT-2; PEFT corrects that from the layer, we from the other shapes."""
    modules = {"attn": linear(24, 8, seed=1), "proj": linear(8, 8, seed=2)}
    state = {"attn.weight": random((8, 24), 3), "attn.bias": random((24,), 4)}
    state |= {"proj.weight": random((8, 8), 5), "proj.bias": random((8,), 6)}
    model = adapted(state, write_lora(tmp_path / "a", modules, fan_in_fan_out=said))
    for name in modules:
        assert_rounded_once(
            values(model, f"{name}.weight"), (state[f"{name}.weight"].T + dense(modules[name], 2)).T.copy()
        )
    square = {name: state[name] for name in ("proj.weight", "proj.bias")}
    alone = adapted(square, write_lora(tmp_path / "b", {"proj": modules["proj"]}, fan_in_fan_out=said))
    delta = dense(modules["proj"], 2)
    assert_rounded_once(values(alone, "proj.weight"), square["proj.weight"] + (delta.T if said else delta))
    del square["proj.bias"]
    biasless = adapted(square, write_lora(tmp_path / "c", {"proj": modules["proj"]}, fan_in_fan_out=said))
    assert_rounded_once(values(biasless, "proj.weight"), square["proj.weight"] + delta)


def test_biases_and_whole_tensors(tmp_path: Path) -> None:
    modules = {"q": linear(7, 5, seed=1) | {"lora_B.bias": random((7,), 2)}, "embed": embedding(12, 5, seed=3)}
    saved = {
        "norm.weight": random((5,), 4),
        "embed.base_layer.weight": random((12, 5), 5),
        "score.weight": random((2, 5), 6),
    }
    state = {"q.weight": random((7, 5), 7), "q.bias": random((7,), 8), "norm.weight": random((5,), 9)}
    state |= {"embed.weight": random((10, 5), 10), "ids": np.arange(3)}
    folder = write_lora(tmp_path / "a", modules, saved=saved, lora_bias=True, modules_to_save=["score", "norm"])
    model = adapted(state, folder)
    assert_rounded_once(values(model, "q.bias"), state["q.bias"] + 2.0 * modules["q"]["lora_B.bias"])
    assert np.array_equal(values(model, "norm.weight"), saved["norm.weight"])
    assert np.array_equal(values(model, "score.weight", block=3), saved["score.weight"])
    # A vocabulary that grew: the saved embedding replaces the base's, and is what the factors change.
    assert model.tensors["embed.weight"].shape == (12, 5)
    assert_rounded_once(values(model, "embed.weight"), saved["embed.base_layer.weight"] + dense(modules["embed"], 2))
    assert np.array_equal(values(model, "ids"), state["ids"]) and model.tensors["ids"].dtype == "I64"


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_bit_depends_on_the_stretch(data: st.DataObject) -> None:
    rows, columns, rank = (data.draw(st.integers(1, high)) for high in (9, 1100, 9))
    generator = np.random.default_rng(data.draw(st.integers(0, 99)))
    left, right = generator.standard_normal((rows, rank)), generator.standard_normal((rank, columns))
    weights = generator.standard_normal(rows * columns).astype(np.float32)
    whole = weights.copy()
    add_product(left, right, 0, whole)
    assert_rounded_once(whole, weights + (left @ right).reshape(-1))
    start = data.draw(st.integers(0, whole.size - 1))
    part = weights[start : start + data.draw(st.integers(1, whole.size))].copy()
    add_product(left, right, start, part)
    assert np.array_equal(part, whole[start : start + part.size])


def test_blocks_and_threads(tmp_path: Path) -> None:
    state = {"q.weight": from_float32(random((40, 33), 1), "BF16")}
    model = adapted(state, write_lora(tmp_path / "a", {"q": linear(40, 33)}))
    whole = values(model, "q.weight")
    for block in (1, 7, 33, 64, 1000):
        assert np.array_equal(values(model, "q.weight", block), whole), block
    source = model.source("q.weight")

    def read(start: int) -> np.ndarray:
        out = np.empty(min(50, whole.size - start), np.float32)
        source.read_into(out, start)
        return out

    with ThreadPoolExecutor(8) as pool:
        pieces = list(pool.map(read, range(0, whole.size, 50)))
    assert np.array_equal(np.concatenate(pieces), whole.reshape(-1))


def test_views_stack(tmp_path: Path) -> None:
    state = {"q.weight": random((6, 5), 1)}
    one, two = {"q": linear(6, 5, seed=1)}, {"q": linear(6, 5, rank=2, seed=2)}
    model = adapted(state, write_lora(tmp_path / "a", one))
    both = AdaptedModel(model, open_adapter(write_lora(tmp_path / "b", two)))
    exact = state["q.weight"] + dense(one["q"], 2) + dense(two["q"], 4)
    np.testing.assert_allclose(values(both, "q.weight"), exact, rtol=1e-6, atol=1e-6)
    assert both.label == f"org/base+{tmp_path / 'a'}+{tmp_path / 'b'}"


@pytest.mark.parametrize(("inside", "outside"), [("layers.0.q", "bert.layers.0.q"), ("bert.layers.0.q", "layers.0.q")])
def test_a_prefix_more_or_less_is_found(tmp_path: Path, inside: str, outside: str) -> None:
    modules = {inside: linear(6, 5), inside.replace("0", "1"): linear(6, 5, seed=1)}
    state = {f"{outside}.weight": random((6, 5), 2), f"{outside.replace('0', '1')}.weight": random((6, 5), 3)}
    saved = {"score.weight": random((2, 5), 4)}
    model = adapted(state, write_lora(tmp_path / "a", modules, saved=saved))
    assert model.tensors.keys() == {*state, "score.weight"}
    assert_rounded_once(values(model, f"{outside}.weight"), state[f"{outside}.weight"] + dense(modules[inside], 2))


def test_what_does_not_fit_is_listed(tmp_path: Path) -> None:
    modules = {"q": linear(6, 5), "gone": linear(6, 5), "k": linear(6, 4) | {"lora_B.bias": random((6,), 1)}}
    modules |= {"v": linear(6, 5) | {"lora_B.bias": random((6,), 1)}, "ids": linear(2, 2)}
    state = {"q.weight": random((7, 5), 1), "k.weight": random((4, 6), 2), "v.weight": random((6, 5), 3)}
    state |= {"ids.weight": np.zeros((2, 2), np.int64)}
    folder = write_lora(tmp_path / "a", modules)
    with pytest.raises(FindingsError) as caught:
        adapted(state, folder)
    text = str(caught.value)
    assert "lacks 2 of the 5 weights that it changes: gone.weight, ids.weight" in text
    assert "q.weight [7, 5] (the adapter's change is [6, 5])" in text
    assert "lacks 2 biases that it changes: k.bias, v.bias" in text
    assert "the base that the adapter was trained on; it was trained on 'org/base'" in text and str(folder) in text


def test_another_base(tmp_path: Path) -> None:
    state = {"q.weight": random((60, 5), 1)}
    folder = write_lora(tmp_path / "a", {"q": linear(60, 5)})
    adapter = open_adapter(folder)
    for label in ("/models/base", "/cache/models--org--base/snapshots/1234"):
        assert AdaptedModel(ArrayModel(label, state), adapter).warnings == []
    (found,) = AdaptedModel(ArrayModel("/models/another", state), adapter).warnings
    assert found.severity == "warning" and "'org/base'" in found.message and "/models/another" in found.message
    adapted(state, folder, "/models/another")

    recorded = f'{{"base": {{"fingerprint": "{fingerprint(ArrayModel("", state))}"}}}}'
    (folder / "tunemerge_adapter.json").write_text(recorded)
    adapted(state, folder, "/models/another")
    adapted({"q.weight": from_float32(state["q.weight"], "BF16")}, folder)
    other = {"q.weight": state["q.weight"].copy()}
    other["q.weight"][-1, -1] += 1
    with pytest.raises(FindingsError, match="whose weights are not those of org/base"):
        adapted(other, folder)


def test_nan_in_a_factor_is_named(tmp_path: Path) -> None:
    factors = linear(6, 5)
    factors["lora_B.weight"][2, 1] = np.nan
    model = adapted({"q.weight": random((6, 5), 1)}, write_lora(tmp_path / "a", {"q": factors}))
    with pytest.raises(UsageError, match=r"adapter_model.safetensors: base_model.model.q.lora_B.weight: holds NaN"):
        values(model, "q.weight")


def test_every_method_runs_on_adapted_models(tmp_path: Path) -> None:
    """A merge of two adapted models is planned in the base's dtype and rounded once."""
    from tunemerge.merge.blocks import BLOCK
    from tunemerge.merge.method import METHODS
    from tunemerge.merge.recipe.plain import plain_document, plan_models
    from tunemerge.merge.runner import run_tensors

    base = ArrayModel("base", {"q.weight": from_float32(random((30, 20), 1), "BF16")})
    modules = [{"q": linear(30, 20, seed=i)} for i in range(2)]
    models = [AdaptedModel(base, open_adapter(write_lora(tmp_path / f"{i}", m))) for i, m in enumerate(modules)]
    everyone = [*models, base]
    names = [model.tensors.keys() for model in everyone]
    plan = plan_models(plain_document(METHODS["task_arithmetic"], names, True, {"weight": 0.5}), everyone)
    out = np.empty(600, np.uint16)

    def sink_of(tensor: Any) -> Any:
        def sink(start: int, part: np.ndarray) -> None:
            out[start : start + part.size] = part

        return sink

    run_tensors(plan, everyone, sink_of, threads=2, block=BLOCK)
    exact = to_float32(base.state["q.weight"], "BF16") + dense(modules[0]["q"], 1) + dense(modules[1]["q"], 1)
    assert plan.tensors[0].out_dtype == "BF16"
    assert (out.reshape(30, 20) == from_float32(exact.astype(np.float32), "BF16")).mean() > 0.99
