"""LiNeS: what a method adds to the base, scaled by depth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunemerge.checkpoint.dtypes import Array
from tunemerge.checkpoint.model import open_checkpoint
from tunemerge.checkpoint.reader import read_tensor
from tunemerge.findings import FindingsError
from tunemerge.merge.lines import Scaled, depths
from tunemerge.merge.memory import merge, merge_state
from tunemerge.merge.method import METHODS, SAMPLE, Tensor
from tunemerge.merge.recipe.documents import load_recipe
from tunemerge.merge.recipe.options import Options
from tunemerge.merge.recipe.run import merge_recipe
from tunemerge.testing.methods import sample

MakeModel = Callable[..., Path]
LAYERS = 4
NAMES = ("embed.weight", *(f"layers.{i}.{part}.weight" for i in range(LAYERS) for part in ("attn", "mlp")), "norm.bias")
LINES = {"alpha": 0.25, "beta": 0.75}


def state(seed: int) -> dict[str, Array]:
    shapes = {name: (7,) if name == "norm.bias" else (9, 7) for name in NAMES}
    return {name: sample(shape, "F32", 100 * seed + i) for i, (name, shape) in enumerate(shapes.items())}


def factor(name: str) -> float:
    return 0.25 + 0.75 * (int(name.split(".")[1]) / (LAYERS - 1) if name.startswith("layers") else 0.0)


def test_depth_runs_from_the_first_layer_to_the_last_of_every_stack() -> None:
    names = [f"encoder.{i}.{part}.weight" for i in range(3) for part in ("a", "b")]
    names += [f"decoder.{i}.{part}.weight" for i in range(2) for part in ("a", "b")]
    found = depths([*names, "embed.weight", "head.weight"])
    assert {found[f"encoder.{i}.b.weight"] for i in range(3)} == {0.0, 0.5, 1.0}
    assert (found["decoder.0.a.weight"], found["decoder.1.a.weight"]) == (0.0, 1.0)
    assert found["embed.weight"] == found["head.weight"] == 0.0
    assert set(depths(["only.0.a.weight", "only.0.b.weight"]).values()) == {1.0}


@pytest.mark.parametrize("name", [name for name, method in METHODS if method.needs_base])
def test_any_method_of_task_vectors_takes_it(name: str) -> None:
    base, models = state(0), [state(1), state(2)][: METHODS[name].max_models or 2]
    given = {"iterations": 3} if name == "wudi" else {}
    plain = merge_state(name, models, base, given)
    found = merge_state(name, models, base, given, lines=LINES)
    for tensor, start in base.items():
        expected = start + factor(tensor) * (plain[tensor].astype(np.float64) - start)
        np.testing.assert_allclose(found[tensor], expected, rtol=1e-6, atol=1e-8)


def test_a_schedule_of_one_changes_no_bit() -> None:
    base, models = state(0), [state(1), state(2)]
    plain = merge_state("ties", models, base)
    found = merge_state("ties", models, base, lines={"alpha": 1.0, "beta": 0.0})
    assert all(found[name].tobytes() == plain[name].tobytes() for name in plain)


def test_streams_that_look_at_a_sample_first_still_may() -> None:
    """A tensor so large that TIES looks, and so takes one pass."""
    shape = (4 * SAMPLE,)
    base, *models = ({"w": sample(shape, "F32", seed)} for seed in range(3))
    plain = merge_state("ties", models, base, {"density": 0.3})["w"]
    found = merge_state("ties", models, base, {"density": 0.3}, lines={"alpha": 0.5, "beta": 0.0})["w"]
    np.testing.assert_allclose(found, (base["w"] + plain) / 2, rtol=1e-6, atol=1e-8)
    stream = Scaled(METHODS["ties"].stream(Tensor("w", shape, 2, METHODS["ties"].resolve({"density": 0.3}, 2))), 0.5)
    assert stream.looks and stream.passes == 2


def test_one_model_keeps_its_last_layer() -> None:
    base, model = state(0), state(1)
    found = merge("task_arithmetic", [model], base=base, weight=1.0, lines=LINES)
    for part in ("attn", "mlp"):
        np.testing.assert_array_equal(found[f"layers.3.{part}.weight"], model[f"layers.3.{part}.weight"])


def test_averaged_tensors_are_not_scaled() -> None:
    base, models = state(0), [state(1), state(2)]
    found = merge_state("task_arithmetic", models, base, average=["embed"], lines=LINES)
    np.testing.assert_allclose(found["embed.weight"], (models[0]["embed.weight"] + models[1]["embed.weight"]) / 2)


def test_a_recipe_takes_it_and_a_gradient_on_lambda_is_the_same(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for i in range(3):
        make_model(f"m{i}", state=state(i))
    head = "merge_method: task_arithmetic\nbase_model: m0\nmodels: [{model: m1}, {model: m2}]\n"
    by_lines = recipe(head + "parameters: {weight: 0.4}\nlines: {alpha: 0.25, beta: 0.75}\n", "a")
    by_gradient = recipe(head + "parameters: {weight: 0.4, lambda: [0.25, 1.0]}\n", "b")
    plain = merge_state("task_arithmetic", [state(1), state(2)], state(0), lines=LINES)
    for name in NAMES:
        np.testing.assert_array_equal(by_lines[name], plain[name])
        np.testing.assert_allclose(by_lines[name], by_gradient[name], rtol=1e-6, atol=1e-8)


def recipe(text: str, out: str) -> dict[str, Array]:
    Path("recipe.yaml").write_text(text)
    found = open_checkpoint(merge_recipe(load_recipe(Path("recipe.yaml")), Path(out), Options()))
    return {name: read_tensor(found, name) for name in NAMES}


WRONG: list[tuple[Any, str]] = [
    ({"alpha": 1.0}, "lines needs beta"),
    ({"alpha": 1.0, "beta": "much"}, "beta must be a number"),
    ({"alpha": 1.0, "beta": 0.5, "gamma": 1}, "lines has no parameter 'gamma'"),
    (0.5, "lines takes alpha and beta, not 0.5"),
]


@pytest.mark.parametrize(("given", "text"), WRONG)
def test_a_wrong_schedule_is_refused(given: Any, text: str) -> None:
    with pytest.raises(FindingsError, match=text):
        merge_state("ties", [state(1), state(2)], state(0), lines=given)


def test_methods_without_task_vectors_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FindingsError, match="linear merges none at all"):
        merge_state("linear", [state(1), state(2)], lines=LINES)
    with pytest.raises(FindingsError, match="nuslerp merges none here"):
        merge_state("nuslerp", [state(1), state(2)], lines=LINES)
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text("merge_method: linear\nmodels: [{model: a}]\nlines: {alpha: 1}\n")
    with pytest.raises(FindingsError) as caught:
        load_recipe(Path("recipe.yaml"))
    assert "lines needs beta" in str(caught.value) and "linear merges none at all" in str(caught.value)
