"""From a recipe and the headers of its models to the plan: which tensors, from where, with which values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tunemerge.checkpoint.header import TensorInfo
from tunemerge.checkpoint.source import Source
from tunemerge.merge.plan import Input, TensorPlan
from tunemerge.merge.recipe.assemble import Assembly, assemble
from tunemerge.merge.recipe.documents import parse_recipe
from tunemerge.merge.recipe.views import make_views

PARTS = ("self_attn.weight", "mlp.up.weight", "norm.weight")


@dataclass(frozen=True)
class Headers:
    """A model of which only the header is read."""

    label: str
    tensors: Mapping[str, TensorInfo]

    def source(self, name: str) -> Source:
        raise NotImplementedError


def llama(
    layers: int = 5, hidden: int = 4, head: bool = True, prefix: str = "model.", dtype: str = "F32"
) -> dict[str, Any]:
    names = [f"{prefix}embed_tokens.weight", f"{prefix}norm.weight", *(["lm_head.weight"] if head else [])]
    names += [f"{prefix}layers.{i}.{part}" for i in range(layers) for part in PARTS]
    return {name: TensorInfo(dtype, (hidden, hidden), 0, 0) for name in names}


def planned(
    text: str, models: Mapping[str, Mapping[str, TensorInfo]], configs: Mapping[str, Any] | None = None
) -> Assembly:
    document = parse_recipe(text, Path("recipe.yaml")).output
    refs = dict.fromkeys([*document.merged, document.donor])
    seen = []
    for ref in refs:
        own, config = models[ref.path], (configs or {}).get(ref.path, {})
        seen.append((Headers(ref.path, own), own, config))
    views = dict(zip(refs, make_views(seen, list(refs).index(document.donor)), strict=True))
    return assemble(document, views, seed=0)


def tensors(found: Assembly) -> dict[str, TensorPlan]:
    assert found.findings == ()
    return {tensor.name: tensor for tensor in found.plan.tensors}


def test_a_recipe_of_mergekit_s_documentation() -> None:
    text = """
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
"""
    names = ["psmathur/orca_mini_v3_13b", "garage-bAInd/Platypus2-13B", "WizardLM/WizardMath-13B-V1.0"]
    found = tensors(planned(text, {name: llama() for name in [*names, "TheBloke/Llama-2-13B-fp16"]}))
    middle = found["model.layers.2.mlp.up.weight"]
    assert middle.method.name == "ties" and middle.out_dtype == "F16"
    assert middle.inputs == tuple(Input(i, middle.name) for i in range(3)) and middle.base == Input(3, middle.name)
    assert middle.values["density"] == pytest.approx([0.7, 0.5, 0.33])
    assert middle.values["weight"] == pytest.approx([1.0, 0.5, 0.5])
    assert found["model.layers.3.self_attn.weight"].values["weight"] == pytest.approx([1.0, 0.775, 0.0])
    assert found["model.layers.4.self_attn.weight"].values["density"] == pytest.approx([0.1, 0.5, 0.33])
    for outside in ("model.embed_tokens.weight", "lm_head.weight"):
        assert found[outside].values["density"] == [1.0, 0.5, 0.33]
        assert found[outside].values["weight"] == [1.0, 0.0, 0.0]
    assert middle.values["normalize"] is True and middle.values["lambda"] == 1.0


def test_slerp_with_filters_puts_the_base_first() -> None:
    text = """
merge_method: slerp
base_model: org/b
models: [{model: org/a}, {model: org/b}]
parameters:
  t:
    - {filter: self_attn, value: [0, 0.5, 0.3, 0.7, 1]}
    - {filter: mlp, value: [1, 0]}
    - value: 0.5
dtype: bfloat16
"""
    found = tensors(planned(text, {"org/a": llama(), "org/b": llama()}))
    assert [found[f"model.layers.{i}.self_attn.weight"].values["t"] for i in range(5)] == pytest.approx(
        [0, 0.5, 0.3, 0.7, 1]
    )
    assert found["model.layers.1.mlp.up.weight"].values["t"] == pytest.approx(0.75)
    assert found["lm_head.weight"].values["t"] == 0.5
    assert planned(text, {"org/a": llama(), "org/b": llama()}).plan.models == ("org/b", "org/a")


def test_the_nearest_level_wins_and_a_filter_that_does_not_fit_falls_through() -> None:
    text = """
merge_method: task_arithmetic
base_model: base
modules:
  default:
    parameters: {lambda: 0.7, weight: 0.6}
    slices:
      - sources:
          - {model: a, layer_range: [0, 1], parameters: {weight: [{filter: mlp, value: 0.9}]}}
          - {model: b, layer_range: [0, 1]}
          - {model: base, layer_range: [0, 1]}
        parameters: {weight: [{filter: norm, value: 0.8}]}
      - sources:
          - {model: a, layer_range: [1, 2], parameters: {weight: 0.2}}
          - {model: base, layer_range: [1, 2]}
parameters: {weight: 0.4, lambda: 0.3, normalize: no}
"""
    found = tensors(planned(text, {name: llama(2) for name in ("a", "b", "base")}))
    weights = {part: found[f"model.layers.0.{part}"].values["weight"] for part in PARTS}
    assert weights == {"self_attn.weight": [0.6, 0.6], "mlp.up.weight": [0.9, 0.6], "norm.weight": [0.8, 0.8]}
    assert found["model.layers.1.norm.weight"].values["weight"] == [0.2]
    assert found["lm_head.weight"].values["lambda"] == 0.7 and found["lm_head.weight"].values["normalize"] is False


SLICES = """
merge_method: slerp
base_model: b
slices:
  - sources: [{model: a, layer_range: [0, 3]}, {model: b, layer_range: [1, 4]}]
    parameters: {t: [0, 1]}
  - sources: [{model: b, layer_range: [4, 5]}, {model: a, layer_range: [2, 3]}]
parameters: {t: [0.2, 0.8]}
"""


def test_slices_are_renumbered_and_have_gradients_of_their_own() -> None:
    found = planned(SLICES, {"a": llama(3), "b": llama(5)})
    by_name = tensors(found)
    assert sorted(by_name) == sorted(llama(4))
    inner = [by_name[f"model.layers.{i}.norm.weight"] for i in range(4)]
    assert [t.values["t"] for t in inner] == [0, 0.5, 1, 0.8]  # a slice of one layer has t = 1
    assert [(t.inputs[0].name[13], t.inputs[1].name[13]) for t in inner] == [
        ("1", "0"),
        ("2", "1"),
        ("3", "2"),
        ("4", "2"),
    ]
    assert found.plan.models == ("b", "a")
    assert by_name["model.embed_tokens.weight"].values["t"] == 0  # the first slice's first value
    assert by_name["lm_head.weight"].values["t"] == 0.2  # the last slice's
    assert [(str(ref), layer) for ref, layer in found.layers["model.layers"]] == [
        ("b", 1),
        ("b", 2),
        ("b", 3),
        ("b", 4),
    ]
    assert found.stacks == {"model.layers": 5}


def test_ends_come_from_the_first_and_the_last_slice() -> None:
    text = """
merge_method: linear
parameters: {weight: 1}
slices:
  - sources: [{model: a, layer_range: [0, 2]}]
  - sources: [{model: b, layer_range: [1, 3]}]
"""
    found = planned(text, {"a": llama(3), "b": llama(3)})
    of = {name: found.plan.models[t.inputs[0].model] for name, t in tensors(found).items()}
    assert of["model.embed_tokens.weight"] == "a" and of["model.norm.weight"] == of["lm_head.weight"] == "b"
    assert [of[f"model.layers.{i}.norm.weight"] for i in range(4)] == ["a", "a", "b", "b"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (llama(4), "b: layer_range [4, 5] asks for more than its 4 layers (model.layers)"),
        ({"w": TensorInfo("F32", (4, 4), 0, 0)}, "b: its tensors have no numbered layers"),
        ({**llama(5), **llama(5, prefix="vision.")}, "b: has several stacks of layers: model.layers, vision.layers"),
        (
            {f"n.{i}.weight": TensorInfo("F32", (4, 4), 0, 0) for i in (0, 2)},
            "b: the numbers of its layers (n) have gaps",
        ),
    ],
)
def test_slices_of_layers_that_are_not_there(model: Any, message: str) -> None:
    findings = planned(SLICES, {"a": llama(3), "b": model}).findings
    assert any(f"{f.where}: {f.message}".startswith(message) for f in findings), findings


def test_modules_of_one_checkpoint() -> None:
    both = {
        name.replace("model.", f"{side}."): info
        for side in ("encoder", "decoder")
        for name, info in llama(3, head=False).items()
    }
    both["shared.weight"] = TensorInfo("F32", (4, 4), 0, 0)
    text = """
merge_method: linear
modules:
  encoder:
    models: [{model: a}, {model: b}]
    parameters: {weight: [0.5, 1]}
  decoder:
    slices: [{sources: [{model: b, layer_range: [1, 3]}], parameters: {weight: 1}}]
"""
    found = planned(text, {"a": both, "b": both})
    by_name = {tensor.name: tensor for tensor in found.plan.tensors}
    assert by_name["encoder.layers.1.norm.weight"].values["weight"] == [0.75, 0.75]
    assert by_name["decoder.layers.0.norm.weight"].inputs == (Input(1, "decoder.layers.1.norm.weight"),)
    assert "decoder.layers.2.norm.weight" not in by_name and "decoder.norm.weight" in by_name
    assert by_name["shared.weight"].inputs == (Input(0, "shared.weight"),)
    assert [(f.severity, f.message) for f in found.findings] == [
        ("note", "1 tensors belong to no module and are copied (shared.weight)")
    ]


LINEAR = "merge_method: linear\nmodels: [{model: a}, {model: b}]\nparameters: {weight: [0.25, 0.75]}\n"


def test_models_that_differ_by_a_prefix_meet() -> None:
    ours = {f"bert.{name}": info for name, info in llama(2).items()}
    found = tensors(planned(LINEAR, {"a": ours, "b": llama(2)}))
    assert found.keys() == ours.keys()
    assert found["bert.model.norm.weight"].inputs == (Input(0, "bert.model.norm.weight"), Input(1, "model.norm.weight"))
    other = tensors(planned(LINEAR, {"a": llama(2), "b": ours}))
    assert other["model.norm.weight"].inputs[1].name == "bert.model.norm.weight"


def test_the_embedding_stands_for_a_head_that_is_tied_to_it() -> None:
    found = planned(LINEAR, {"a": llama(2), "b": llama(2, head=False)}, {"b": {"tie_word_embeddings": True}})
    assert tensors(found)["lm_head.weight"].inputs == (
        Input(0, "lm_head.weight"),
        Input(1, "model.embed_tokens.weight"),
    )
    assert found.untied
    none = planned(LINEAR, {"a": llama(2, head=False), "b": llama(2, head=False)})
    assert "lm_head.weight" not in tensors(none) and not none.untied
    loose = planned(LINEAR, {"a": llama(2), "b": llama(2, head=False)}, {"b": {"tie_word_embeddings": False}})
    assert [f.message for f in loose.findings] == ["lacks 1 of the 9 tensors to be merged (lm_head.weight)"]


def test_tensors_that_some_models_lack_are_findings_and_planned_all_the_same() -> None:
    text = LINEAR.replace("linear", "task_arithmetic") + "base_model: base\n"
    head = {"score.weight": TensorInfo("F32", (2, 4), 0, 0)}
    found = planned(text, {"a": {**llama(2), **head}, "b": {**llama(2), **head}, "base": llama(2)})
    assert [(f.code, f.where) for f in found.findings] == [("tensor-names", "base")]
    score = next(t for t in found.plan.tensors if t.name == "score.weight")
    assert score.method.name == "linear" and score.base is None and score.values["weight"] == [0.25, 0.25]
    only = planned(text, {"a": llama(2), "b": llama(2), "base": {**llama(2), **head}})
    score = next(t for t in only.plan.tensors if t.name == "score.weight")
    assert score.inputs == (Input(2, "score.weight"),) and {f.where for f in only.findings} == {"a", "b"}
    asked = planned(
        text + "average: [score.]\n", {"a": {**llama(2), **head}, "b": {**llama(2), **head}, "base": llama(2)}
    )
    assert tensors(asked)["score.weight"].values["normalize"] is True


def test_buffers_that_some_versions_store_are_taken_from_those_that_have_them() -> None:
    ids = {"position_ids": TensorInfo("I64", (1, 4), 0, 0), "rotary.inv_freq": TensorInfo("F32", (4,), 0, 0)}
    found = tensors(planned(LINEAR, {"a": llama(2), "b": {**llama(2), **ids}}))
    assert found["position_ids"].copy and found["position_ids"].inputs == (Input(1, "position_ids"),)
    assert found["rotary.inv_freq"].inputs == (Input(1, "rotary.inv_freq"),)


def test_shapes_and_dtypes_that_do_not_fit() -> None:
    words = {**llama(2), "model.embed_tokens.weight": TensorInfo("F32", (5, 4), 0, 0)}
    (finding,) = planned(LINEAR, {"a": llama(2), "b": words}).findings
    assert "embed_tokens.weight [5, 4] instead of [4, 4]" in finding.message and "tokenizer" in finding.remedy
    eight = {**llama(2), "model.norm.weight": TensorInfo("F8_E4M3", (4, 4), 0, 0)}
    (finding,) = planned(LINEAR, {"a": llama(2), "b": eight}).findings
    assert finding.code == "tensor-dtype" and finding.where == "model.norm.weight"


def test_without_a_dtype_the_base_s_is_kept() -> None:
    text = LINEAR.replace("linear", "task_arithmetic") + "base_model: base\n"
    models = {"a": llama(2), "b": llama(2, dtype="F16"), "base": llama(2, dtype="BF16")}
    assert {t.out_dtype for t in tensors(planned(text, models)).values()} == {"BF16"}
    assert {t.out_dtype for t in tensors(planned(text + "out_dtype: float32", models)).values()} == {"F32"}


def test_a_tensor_without_a_value_is_named() -> None:
    text = "merge_method: linear\nparameters: {weight: {filter: mlp, value: 1}}\nmodels: [{model: a}]"
    messages = [f.message for f in planned(text, {"a": llama(1)}).findings]
    assert "no weight of a applies to tensor 'lm_head.weight'" in messages


def test_what_a_stack_keeps_in_its_first_layer_stays_there() -> None:
    bias = "decoder.block.0.bias.weight"
    model = {f"decoder.block.{i}.{part}": TensorInfo("F32", (4, 4), 0, 0) for i in range(3) for part in PARTS}
    model[bias] = TensorInfo("F32", (4, 2), 0, 0)
    text = "merge_method: linear\nparameters: {weight: [0.2, 1]}\nslices:\n"
    text += "- sources: [{model: a, layer_range: [1, 3]}]\n- sources: [{model: a, layer_range: [0, 1]}]\n"
    found = tensors(planned(text, {"a": model}))
    assert found[bias].inputs == (Input(0, bias),) and found[bias].values["weight"] == [0.2]
    assert found["decoder.block.2.norm.weight"].inputs == (Input(0, "decoder.block.0.norm.weight"),)
    assert "decoder.block.2.bias.weight" not in found
