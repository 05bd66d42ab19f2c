from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tunemerge.findings import FindingsError
from tunemerge.merge.recipe.documents import load_recipe
from tunemerge.merge.recipe.parts import ModelRef, Recipe

Load = Callable[[str], Recipe]


@pytest.fixture
def recipe(tmp_path: Path) -> Load:
    def load(text: str) -> Recipe:
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        return load_recipe(path)

    return load


def refused(load: Load, text: str) -> list[str]:
    """Every finding as 'line: message'."""
    with pytest.raises(FindingsError) as caught:
        load(text)
    return [f"{f.where.rpartition(':')[2]}: {f.message}" for f in caught.value.findings]


def test_all_findings_at_once_with_lines(recipe: Load) -> None:
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
chat_template: chatlm
tokenizer_source: 3
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
        "13: a merge needs one of models, slices, modules; found models and slices",
        "14: no chat template 'chatlm'",
        "15: the tokenizer's source is union, base or a model, not 3",
        "16: dtype must be one of float64, float32, float16, bfloat16, not 'int4'",
        "17: unknown key 'merg'",
        "19: normalize must be true or false, not 3",
    ):
        assert any(line.startswith(expected) for line in found), (expected, found)
    assert len(found) == 10


ONE = "merge_method: linear\nparameters: {{weight: 1}}\nmodels: [{{model: {}}}]"
SLICE = """merge_method: linear
parameters: {{weight: 1}}
slices:
  - sources:
      - {{model: org/a, layer_range: {}}}
      - {{model: org/b, layer_range: {}}}
"""
TWO = "models: [{model: org/a, parameters: {weight: 1}}, {model: org/b, parameters: {weight: 1}}]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            TWO + "merge_method: dare-ties\nbase_model: org/c",
            "2: unknown merge method 'dare-ties'; did you mean 'dare_ties'",
        ),
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
        (ONE.format("a/b+c/d+e/f"), "names 2 adapters"),
        (ONE.format("a/b@"), "a revision is written `model@revision`"),
        (ONE.format("a/b@x@y"), "a revision is written `model@revision`"),
        (ONE.format("+c/d"), "one of them is missing"),
        (ONE.format("{modle: a/b}"), "unknown key 'modle' of a model; did you mean 'model'?"),
        (ONE.format("{model: {path: 1}}"), "a path and its revision are written"),
        (ONE.format("3"), "a model must be a folder or a Hub id, not 3"),
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
        (TWO + "merge_method: linear\ntokenizer: {sorce: base}", "3: unknown key 'sorce'; did you mean 'source'?"),
        (TWO + "merge_method: linear\nname: 3", "3: name must be text, not 3"),
        (TWO + "merge_method: linear\nparameters: 3", "3: parameters must be a mapping"),
        (SLICE.format("[0, 4]", "[0, 3]"), "different numbers of layers: 3, 4"),
        (SLICE.format("[0, 4]", "null"), "a slice's model needs a layer_range"),
        (SLICE.format("[0, 4]", "[4, 0]"), "END not included, not [4, 0]"),
        (SLICE.format("[0, 4]", "[0.5, 4]"), "END not included, not [0.5, 4]"),
        (SLICE.format("[0, 4]", "[0, 4], layers: 3"), "unknown key 'layers'"),
        ("merge_method: linear\nslices: 3", "2: slices must be a list"),
        ("merge_method: linear\nslices: [{sources: []}]", "2: sources must be a list of"),
        ("merge_method: linear\nmodules: {encoder: {}}", "2: the module 'encoder' needs either models or slices"),
        ("merge_method: linear\nmodules: [encoder]", "2: modules must be a mapping"),
        ("- 1", "a recipe is a mapping"),
        ("", "a recipe is a mapping"),
    ],
)
def test_refused(recipe: Load, text: str, message: str) -> None:
    assert any(message in line for line in refused(recipe, text)), refused(recipe, text)


def test_what_has_no_effect_is_a_warning(recipe: Load) -> None:
    found = recipe("""merge_method: linear
models:
  - model: org/a
    parameters: {weight: 1, density: 0.5, normalize: false}
parameters: {epsilon: 0.1}
""")
    assert [f"{f.where.rpartition(':')[2]}: {f.message}" for f in found.findings] == [
        "5: epsilon has no effect on linear",
        "4: density has no effect on linear",
        "4: normalize of a single model has no effect",
    ]


def test_names_of_models(recipe: Load, tmp_path: Path) -> None:
    (tmp_path / "odd+name@1").mkdir()
    found = recipe("""merge_method: linear
parameters: {weight: 1}
models:
  - model: org/a@main+me/adapter@v2
  - model: odd+name@1
  - model: {model: {path: org/b, revision: main}, lora: {path: me/c}}
  - model: org/d+me/adapter
""")
    assert found.output.merged == (
        ModelRef("org/a", "main", "me/adapter", "v2"),
        ModelRef("odd+name@1"),
        ModelRef("org/b", "main", "me/c"),
        ModelRef("org/d", None, "me/adapter"),
    )
    assert str(found.output.merged[0]) == "org/a@main+me/adapter@v2"
    assert len(found.places) == 7 and sum(place.kind == "adapter" for place in found.places) == 3


@pytest.mark.parametrize(
    ("method", "extra", "sources", "base"),
    [
        ("linear", "weight: 1", "abc", ""),  # mergekit merges a base that no method needs as one more model
        ("task_arithmetic", "weight: 1", "ab", "c"),
        ("slerp", "t: 0.5", "ca", ""),  # the base is where t is 0
    ],
)
def test_where_the_base_goes(recipe: Load, method: str, extra: str, sources: str, base: str) -> None:
    models = "[{model: o/a}]" if method == "slerp" else "[{model: o/a}, {model: o/b}]"
    found = recipe(f"merge_method: {method}\nbase_model: o/c\nparameters: {{{extra}}}\nmodels: {models}")
    (part,) = found.output.modules[0].slices
    assert [s.model.path for s in part.sources] == [f"o/{name}" for name in sources]
    assert (part.base.model.path if part.base else "") == (f"o/{base}" if base else "")
    assert found.output.donor == ModelRef("o/c")


def test_a_base_that_a_slice_does_not_list_gives_the_layers_that_all_others_give(recipe: Load) -> None:
    text = "merge_method: task_arithmetic\nbase_model: o/base\nparameters: {{weight: 1}}\nslices:\n  - sources:\n"
    text += "      - {{model: o/a, layer_range: [2, 4]}}\n      - {{model: o/b, layer_range: {}}}\n"
    base = recipe(text.format("[2, 4]")).output.modules[0].slices[0].base
    assert base is not None and base.layers == (2, 4)
    assert any("which layers of the base o/base belong" in line for line in refused(recipe, text.format("[3, 5]")))


def test_dtypes(recipe: Load) -> None:
    assert recipe(ONE.format("o/a")).output.out_dtype is None
    assert recipe(ONE.format("o/a") + "\ndtype: torch.bfloat16").output.out_dtype == "BF16"
    assert recipe(ONE.format("o/a") + "\nout_dtype: float16\ndtype: float32").output.out_dtype == "F16"


FIRST = "name: {}\nmerge_method: linear\nparameters: {{weight: 1}}\nmodels: [{{model: {}}}]\n"


def test_documents_come_in_an_order_in_which_they_can_be_run(recipe: Load) -> None:
    found = recipe(ONE.format("two") + "\n---\n" + FIRST.format("two", "one") + "---\n" + FIRST.format("one", "o/a"))
    assert [document.name for document in found.documents] == ["one", "two", None]
    assert [str(place) for place in found.places] == ["o/a"]
    named = recipe(FIRST.format("all", "one") + "---\n" + FIRST.format("one", "o/a"))
    assert named.output.name == "all"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FIRST.format("a", "b") + "---\n" + FIRST.format("b", "a") + "---\n" + ONE.format("a"), "1: 'a' is made from"),
        (FIRST.format("a", "a"), "1: 'a' is made from itself"),
        (FIRST.format("a", "o/x") + "---\n" + FIRST.format("a", "o/y") + "---\n" + ONE.format("a"), "6: 'a' is also"),
        (ONE.format("o/a") + "\n---\n" + ONE.format("o/b"), "5: which document is the output?"),
        (FIRST.format("a", "o/a") + "---\n" + FIRST.format("b", "o/b"), "6: which document is the output?"),
        (FIRST.format("merged", "o/a") + "---\n" + ONE.format("mergde"), "did you mean 'merged'"),
        (FIRST.format("a", "o/a") + "---\n- 1\n---\n" + ONE.format("a"), "6: a recipe is a mapping"),
    ],
)
def test_documents_that_are_refused(recipe: Load, text: str, message: str) -> None:
    assert any(message in line for line in refused(recipe, text)), refused(recipe, text)


def test_a_document_that_nobody_reads_is_not_run(recipe: Load) -> None:
    found = recipe(FIRST.format("lonely", "o/a") + "---\n" + ONE.format("o/b"))
    assert [document.name for document in found.documents] == [None]
    assert [f.message for f in found.findings] == ["'lonely' is not run: no other document uses it"]


def test_hostile_files(recipe: Load) -> None:
    bomb = "a: &a [1]\n" + "".join(f"b{i}: [{', '.join(['*a'] * 50)}]\n" for i in range(3))
    assert any("aliases" in line for line in refused(recipe, bomb))
    assert any("more than 100 documents" in line for line in refused(recipe, (ONE.format("o/a") + "\n---\n") * 101))
