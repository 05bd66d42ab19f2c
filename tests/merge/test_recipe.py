from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tunemerge.checkpoint.model import open_checkpoint
from tunemerge.checkpoint.reader import read_tensor
from tunemerge.findings import FindingsError
from tunemerge.merge.engine import merge_recipe
from tunemerge.merge.recipe import Recipe, load_recipe
from tunemerge.merge.recipe.values import Depths

MakeModel = Callable[..., Path]
LAYERS = [f"model.layers.{i}.{part}.weight" for i in range(5) for part in ("self_attn", "mlp")]
NAMES = ["model.embed_tokens.weight", *LAYERS, "lm_head.weight"]


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[[str], Recipe]:
    def load(text: str) -> Recipe:
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        return load_recipe(path)

    return load


def refused(load: Callable[[str], Recipe], text: str) -> list[str]:
    """Every finding as 'line: message'."""
    with pytest.raises(FindingsError) as caught:
        load(text)
    return [f"{f.where.rpartition(':')[2]}: {f.message}" for f in caught.value.findings]


def test_a_recipe_of_mergekit_s_documentation(recipe: Callable[[str], Recipe]) -> None:
    found = recipe("""
models:
  - model: psmathur/orca_mini_v3_13b
    parameters:
      density: [1, 0.7, 0.1] # density gradient
      weight: 1.0
  - model: garage-bAInd/Platypus2-13B
    parameters:
      density: 0.5
      weight: [0, 0.3, 0.7, 1] # weight gradient
  - model: WizardLM/WizardMath-13B-V1.0
    parameters:
      density: 0.33
      weight:
        - filter: mlp
          value: 0.5
        - value: 0
merge_method: ties
base_model: TheBloke/Llama-2-13B-fp16
parameters:
  normalize: true
  int8_mask: true
dtype: float16
""")
    assert found.method.name == "ties"
    assert found.base == "TheBloke/Llama-2-13B-fp16" and len(found.models) == 3
    assert found.out_dtype == "F16" and found.warnings == ()
    values = found.parameters_of(NAMES)
    middle = values("model.layers.2.mlp.weight")
    assert middle["density"] == pytest.approx([0.7, 0.5, 0.33])
    assert middle["weight"] == pytest.approx([1.0, 0.5, 0.5])
    assert values("model.layers.3.self_attn.weight")["weight"] == pytest.approx([1.0, 0.775, 0.0])
    assert values("model.layers.4.self_attn.weight")["density"] == pytest.approx([0.1, 0.5, 0.33])
    for outside in ("model.embed_tokens.weight", "lm_head.weight"):
        assert values(outside)["density"] == [1.0, 0.5, 0.33]
        assert values(outside)["weight"] == [1.0, 0.0, 0.0]
    assert middle["normalize"] is True and middle["lambda"] == 1.0


def test_slerp_with_filters_puts_the_base_first(recipe: Callable[[str], Recipe]) -> None:
    found = recipe("""
merge_method: slerp
base_model: org/b
models:
  - model: org/a
  - model: org/b
parameters:
  t:
    - filter: self_attn
      value: [0, 0.5, 0.3, 0.7, 1]
    - filter: mlp
      value: [1, 0]
    - value: 0.5
dtype: bfloat16
""")
    assert found.models == ("org/b", "org/a")
    values = found.parameters_of(NAMES)
    assert [values(f"model.layers.{i}.self_attn.weight")["t"] for i in range(5)] == pytest.approx([0, 0.5, 0.3, 0.7, 1])
    assert values("model.layers.1.mlp.weight")["t"] == pytest.approx(0.75)
    assert values("lm_head.weight")["t"] == 0.5


def test_a_model_s_value_wins_and_a_filter_that_does_not_fit_falls_through(recipe: Callable[[str], Recipe]) -> None:
    found = recipe("""
merge_method: task_arithmetic
base_model: org/base
models:
  - model: org/a
    parameters: {weight: [{filter: mlp, value: 0.9}]}
  - model: org/b
    parameters: {weight: 0.2}
  - model: org/base
parameters: {weight: 0.4, normalize: no}
""")
    assert found.models == ("org/a", "org/b")
    values = found.parameters_of(NAMES)
    assert values("model.layers.1.mlp.weight")["weight"] == [0.9, 0.2]
    assert values("lm_head.weight")["weight"] == [0.4, 0.2]
    assert values("lm_head.weight")["normalize"] is False


def test_depths_of_one_layer_and_of_two_stacks() -> None:
    depths = Depths(["encoder.block.0.x", "encoder.block.4.x", "decoder.block.0.x", "decoder.block.1.x", "h.0.w"])
    assert depths.of("encoder.block.1.x") == 0.25
    assert depths.of("decoder.block.1.x") == 1.0
    assert depths.of("h.0.w") == 1.0
    assert depths.of("classifier.0.weight") == 0.0


def test_all_findings_at_once_with_lines(recipe: Callable[[str], Recipe]) -> None:
    found = refused(
        recipe,
        """merge_method: ties
models:
  - model: org/a
    paramters: {weight: 1}
    parameters:
      weight: much
      densty: 0.5
  - model: org/b
    parameters:
      weight: 1
      density: 1.5
base_model: org/base
slices: []
chat_template: auto
tokenizer_source: union
dtype: int4
merg: 1
parameters:
  normalize: 3
""",
    )
    for expected in (
        "4: unknown key 'paramters'; did you mean 'parameters'?",
        "6: weight must be a number, not 'much'",
        "7: ties has no parameter 'densty'; did you mean 'density'?",
        "11: density must be between 0 and 1, not 1.5",
        "13: 'slices' is not supported yet",
        "14: 'chat_template' is not supported yet",
        "15: a union of tokenizers is not supported yet",
        "16: dtype must be one of float64, float32, float16, bfloat16, not 'int4'",
        "17: unknown key 'merg'",
        "19: normalize must be true or false, not 3",
    ):
        assert any(line.startswith(expected) for line in found), (expected, found)
    assert len(found) == 10


TWO = "models: [{model: org/a, parameters: {weight: 1}}, {model: org/b, parameters: {weight: 1}}]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            TWO + "merge_method: dare-ties\nbase_model: org/c",
            "2: unknown merge method 'dare-ties'; did you mean 'dare_ties'",
        ),
        (TWO + "merge_method: della\nbase_model: org/c", "2: merge method 'della' is not supported yet"),
        (TWO, "1: merge_method is missing"),
        (TWO + "merge_method: ties", "1: ties merges differences from a base model, and none is given"),
        (TWO + "merge_method: ties\nmerge_method: linear", "3: 'merge_method' is given twice; first in line 2"),
        (TWO + "merge_method: slerp", "1: slerp needs the parameter t"),
        (
            "merge_method: slerp\nparameters: {t: 0.5}\nmodels: [{model: a}, {model: b}, {model: c}]",
            "exactly two models, got 3",
        ),
        ("merge_method: linear\nmodels: [{model: org/a}]", "2: linear needs the parameter weight of org/a"),
        ("merge_method: linear\nmodels: []", "2: models must be a list"),
        ("merge_method: linear\nmodels: [org/a]", "2: a model is written `- model: NAME`"),
        (
            "merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: a/b}, {model: a/b}]",
            "3: 'a/b' is listed twice",
        ),
        (
            "merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: a/b+c/d}]",
            "adapters ('a/b+c/d') are not supported",
        ),
        (
            "merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: a/b@main}]",
            "revisions ('a/b@main') are not",
        ),
        ("merge_method: linear\nparameters: {weight: []}\nmodels: [{model: a/b}]", "2: weight is an empty list"),
        (
            "merge_method: linear\nparameters: {weight: [1, {value: 2}]}\nmodels: [{model: a/b}]",
            "mixes numbers and filters",
        ),
        (
            "merge_method: linear\nparameters: {weight: [{filter: a}]}\nmodels: [{model: a/b}]",
            "an entry of weight has no value",
        ),
        ("merge_method: linear\nparameters: {weight: [{filtr: a, value: 1}]}\nmodels: [{model: a/b}]", "not 'filtr'"),
        (
            "merge_method: linear\nparameters: {weight: .nan}\nmodels: [{model: a/b}]",
            "weight must be a number, not nan",
        ),
        (TWO + "merge_method: linear\naverage: classifier", "3: average must be a list"),
        (TWO + "merge_method: linear\ntokenizer: {source: base, tokens: {}}", "3: of `tokenizer` only `source`"),
        ("- 1", "a recipe is a mapping"),
        ("", "a recipe is a mapping"),
    ],
)
def test_refused(recipe: Callable[[str], Recipe], text: str, message: str) -> None:
    assert any(message in line for line in refused(recipe, text)), refused(recipe, text)


def test_what_has_no_effect_is_a_warning(recipe: Callable[[str], Recipe]) -> None:
    found = recipe("""merge_method: linear
models:
  - model: org/a
    parameters: {weight: 1, density: 0.5, normalize: false}
parameters: {epsilon: 0.1}
""")
    assert [f"{f.where.rpartition(':')[2]}: {f.message}" for f in found.warnings] == [
        "5: epsilon has no effect on linear",
        "4: density has no effect on linear",
        "4: normalize of a single model has no effect",
    ]
    assert found.parameters_of(NAMES)("lm_head.weight")["normalize"] is True


def test_a_tensor_without_a_value_is_named(recipe: Callable[[str], Recipe]) -> None:
    found = recipe("merge_method: linear\nparameters: {weight: {filter: mlp, value: 1}}\nmodels: [{model: org/a}]")
    with pytest.raises(FindingsError, match=r"no weight of org/a applies to tensor 'lm_head.weight'"):
        found.parameters_of(NAMES)("lm_head.weight")


def test_an_average_that_fits_nothing_is_refused(make_model: MakeModel, tmp_path: Path) -> None:
    make_model("one", 1)
    (tmp_path / "r.yaml").write_text(
        "merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: one}]\naverage: [clasifier]"
    )
    with pytest.raises(FindingsError, match=r"'clasifier' of `average` is part of no tensor's name"):
        merge_recipe(load_recipe(tmp_path / "r.yaml"), tmp_path / "out")


def test_a_recipe_runs_with_its_gradient(make_model: MakeModel, tmp_path: Path) -> None:
    one, two = make_model("one", 1), make_model("two", 2)
    text = f"""
merge_method: linear
models:
  - model: {one}
    parameters: {{weight: [1, 0]}}
  - model: two
    parameters: {{weight: [0, 1]}}
tokenizer_source: two
out_dtype: float32
average: [classifier]
"""
    (tmp_path / "recipe.yaml").write_text(text)
    out = merge_recipe(load_recipe(tmp_path / "recipe.yaml"), tmp_path / "out")
    merged, a, b = (open_checkpoint(p) for p in (out, one, two))
    for name, source in [
        ("embeddings.word_embeddings.weight", a),
        ("encoder.layer.0.attention.weight", a),
        ("encoder.layer.1.attention.weight", b),
        ("encoder.layer.1.norm.bias", b),
        ("classifier.weight", a),
    ]:
        assert np.array_equal(read_tensor(merged, name), read_tensor(source, name)), name
    assert json.loads((out / "tokenizer.json").read_text()) == {"from": "two"}
    record = json.loads((out / "tunemerge_merge.json").read_text())
    assert record["recipe"]["models"][1]["model"] == "two" and record["averaged"] == ["classifier.weight"]
