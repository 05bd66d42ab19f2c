"""Recipes on real folders: what is written, repeated, refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from lora_files import linear, write_lora
from tokenizing import words
from tunemerge import machine
from tunemerge.checkpoint.dtypes import Array
from tunemerge.checkpoint.model import open_checkpoint
from tunemerge.checkpoint.reader import read_tensor
from tunemerge.errors import UsageError
from tunemerge.findings import Finding, FindingsError
from tunemerge.merge.recipe import steps
from tunemerge.merge.recipe.documents import load_recipe
from tunemerge.merge.recipe.options import Options
from tunemerge.merge.recipe.provenance import read_merged
from tunemerge.merge.recipe.run import merge_recipe

MakeModel = Callable[..., Path]
WORDS, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Intermediates go into .tunemerge of the current folder."""
    monkeypatch.chdir(tmp_path)


def llama(value: float, layers: int = 3, head: bool = True) -> dict[str, Array]:
    """Every tensor holds one number: `value` + its layer in tenths."""

    def full(shape: tuple[int, ...], number: float) -> Array:
        return np.full(shape, number, np.float32)

    state = {WORDS: full((6, 4), value), "model.norm.weight": full((4,), value)}
    for i in range(layers):
        state[f"model.layers.{i}.mlp.up.weight"] = full((4, 4), value + i / 10)
        state[f"model.layers.{i}.input_norm.weight"] = full((4,), value + i / 10)
    return {**state, HEAD: full((6, 4), value)} if head else state


def config(layers: int = 3, **more: Any) -> dict[str, Any]:
    return {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": layers, **more}


def merged(text: str, out: str = "out", tell: list[Finding] | None = None, **options: Any) -> Path:
    Path("recipe.yaml").write_text(text)
    found = [] if tell is None else tell
    return merge_recipe(load_recipe(Path("recipe.yaml")), Path(out), Options(**options), tell=found.extend)


def tensors(folder: Path) -> dict[str, Array]:
    opened = open_checkpoint(folder)
    return {name: read_tensor(opened, name) for name in opened.tensors}


def numbers(folder: Path) -> dict[str, float]:
    """The one number of each tensor."""
    out = {}
    for name, array in tensors(folder).items():
        assert (array == array.reshape(-1)[0]).all(), name
        out[name] = round(float(array.reshape(-1)[0]), 5)
    return out


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def test_a_gradient_over_layers(make_model: MakeModel) -> None:
    one, two = make_model("one", 1), make_model("two", 2)
    out = merged(f"""
merge_method: linear
models:
  - model: {one}
    parameters: {{weight: [1, 0]}}
  - model: two
    parameters: {{weight: [0, 1]}}
out_dtype: float32
average: [classifier]
""")
    found, a, b = tensors(out), tensors(one), tensors(two)
    for name, source in [
        ("embeddings.word_embeddings.weight", a),
        ("encoder.layer.0.attention.weight", a),
        ("encoder.layer.1.attention.weight", b),
        ("encoder.layer.1.norm.bias", b),
        ("classifier.weight", a),
    ]:
        assert np.array_equal(found[name], source[name]), name
    assert read_json(out / "tokenizer.json") == {"from": "one"}


FRANKEN = """
merge_method: passthrough
slices:
  - sources: [{model: a, layer_range: [0, 2]}]
  - sources:
      - model: b
        layer_range: [0, 3]
        parameters: {scale: [{filter: mlp, value: [2, 4]}, {value: 1}]}
"""


def test_a_stack_of_layers_of_two_models(make_model: MakeModel) -> None:
    make_model("a", state=llama(1), config=config(layer_types=["a0", "a1", "a2"]))
    make_model("b", state=llama(5, head=True), config=config(layer_types=["b0", "b1", "b2"]))
    out = merged(FRANKEN)
    assert numbers(out) == {
        WORDS: 1,
        "model.layers.0.mlp.up.weight": 1,
        "model.layers.0.input_norm.weight": 1,
        "model.layers.1.mlp.up.weight": 1.1,
        "model.layers.1.input_norm.weight": 1.1,
        "model.layers.2.mlp.up.weight": 10,
        "model.layers.2.input_norm.weight": 5,
        "model.layers.3.mlp.up.weight": 15.3,
        "model.layers.3.input_norm.weight": 5.1,
        "model.layers.4.mlp.up.weight": 20.8,
        "model.layers.4.input_norm.weight": 5.2,
        "model.norm.weight": 5,
        HEAD: 5,
    }
    assert read_json(out / "config.json") == config(5, layer_types=["a0", "a1", "b0", "b1", "b2"])


def test_a_tied_head_becomes_one_of_its_own(make_model: MakeModel) -> None:
    make_model("tied", state=llama(1, head=False), config=config(tie_word_embeddings=True))
    make_model("loose", state=llama(3), config=config(tie_word_embeddings=False))
    out = merged("merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: tied}, {model: loose}]")
    assert numbers(out)[HEAD] == 2
    assert read_json(out / "config.json")["tie_word_embeddings"] is False


MULTI = """
name: half
merge_method: linear
parameters: {weight: 1}
models: [{model: a}, {model: b}]
---
merge_method: task_arithmetic
base_model: a
models: [{model: half}]
parameters: {weight: WEIGHT}
"""


def test_an_intermediate_is_made_once(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    a = make_model("a", state=llama(1), config=config())
    make_model("b", state=llama(3), config=config())
    made: list[Path] = []
    original = steps.write_model

    def counting(ready: Any, folder: Path, *rest: Any) -> Any:
        made.append(folder)
        assert machine.threads() == 3
        return original(ready, folder, *rest)

    monkeypatch.setattr(steps, "write_model", counting)  # the output's is bound elsewhere
    out = merged(MULTI.replace("WEIGHT", "0.5"), threads=3)
    assert numbers(out)[WORDS] == 1.5 and len(made) == 1
    assert numbers(merged(MULTI.replace("WEIGHT", "2"), "two"))[WORDS] == 3 and len(made) == 1
    # the same models somewhere else, and another name: the same step
    shutil.move(a, "moved")
    again = MULTI.replace("WEIGHT", "2").replace("model: a", "model: moved").replace("half", "middle")
    assert numbers(merged(again, "three"))[WORDS] == 3 and len(made) == 1
    merged(
        MULTI.replace("WEIGHT", "2").replace("model: a", "model: moved").replace("weight: 1}", "weight: 3}"),
        "four",
        threads=3,
    )
    assert len(made) == 2
    assert {p.name for p in Path(".tunemerge").iterdir()} >= {"artifacts", "journal.jsonl", "locks"}


def test_what_is_wrong_with_the_last_document_is_known_before_the_first_is_made(make_model: MakeModel) -> None:
    make_model("a", state=llama(1), config=config())
    make_model("b", state=llama(3), config=config())
    make_model("c", state=llama(3, layers=2), config=config(2))
    with pytest.raises(FindingsError, match=r"lacks 2 of the 9 tensors"):
        merged(MULTI.replace("WEIGHT", "1").replace("base_model: a", "base_model: c"))
    assert not Path(".tunemerge").exists() and not Path("out").exists()


def test_adapters_are_inputs(make_model: MakeModel) -> None:
    make_model("base", state=llama(1), config=config())
    factors = linear(4, 4, rank=2)
    write_lora(Path("lora"), {"model.layers.1.mlp.up": factors}, lora_alpha=4)
    out = merged("merge_method: linear\nmodels: [{model: base+lora}]\nparameters: {weight: 1}")
    change = 2 * factors["lora_B.weight"].astype(np.float64) @ factors["lora_A.weight"].astype(np.float64)
    found = tensors(out)
    np.testing.assert_allclose(found["model.layers.1.mlp.up.weight"], 1.1 + change, atol=2e-6)
    assert (found["model.layers.0.mlp.up.weight"] == 1).all()
    names = [entry["name"] for entry in read_json(out / "tunemerge_merge.json")["inputs"]]
    assert names == ["base", "lora"]


def test_an_adapter_that_names_another_base_is_warned_of(make_model: MakeModel) -> None:
    make_model("stranger", state=llama(1), config=config())
    write_lora(Path("lora"), {"model.layers.1.mlp.up": linear(4, 4, rank=2)})
    told: list[Finding] = []
    merged("merge_method: linear\nmodels: [{model: stranger+lora}]\nparameters: {weight: 1}", tell=told)
    assert [f.code for f in told if "org/base" in f.message] == ["adapter-base"]


def test_single_files_and_folders_without_a_config(make_model: MakeModel) -> None:
    one = make_model("one", state={"w": np.zeros((2, 2), np.float32)})
    two = make_model("two", state={"w": np.ones((2, 2), np.float32)})
    (two / "config.json").unlink()
    models = f"[{{model: {one / 'model.safetensors'}}}, {{model: two}}]"
    out = merged(f"merge_method: linear\nmodels: {models}\nparameters: {{weight: 1}}")
    assert numbers(out) == {"w": 0.5}
    assert sorted(p.name for p in out.iterdir()) == ["README.md", "model.safetensors", "tunemerge_merge.json"]


LINEAR = "merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: a}, {model: b}]\n"


def pair(make_model: MakeModel) -> tuple[Path, Path]:
    return make_model("a", state=llama(1), config=config()), make_model("b", state=llama(3), config=config())


def test_a_merge_is_repeated_from_its_own_files(make_model: MakeModel) -> None:
    pair(make_model)
    text = LINEAR.replace("linear", "dare_ties").replace("weight: 1", "weight: 1, density: 0.5") + "base_model: a\n"
    out = merged(text.replace("[{model: a}, ", "["), seed=7)
    whole = (out / "model.safetensors").read_bytes()
    Path("recipe.yaml").unlink()
    for given in (out, out / "model.safetensors"):
        reading, recorded = read_merged(given)
        assert reading.recipe is not None and recorded.seed == 7
        merge_recipe(reading.recipe, Path("again"), Options(seed=recorded.seed), recorded=recorded)
        assert (Path("again") / "model.safetensors").read_bytes() == whole
    # inputs are found where they lie from the output, wherever both are
    Path("elsewhere").mkdir()
    for name in ("a", "b", "out"):
        shutil.move(name, "elsewhere")
    reading, recorded = read_merged(Path("elsewhere/out"))
    assert reading.recipe is not None
    merge_recipe(reading.recipe, Path("elsewhere/again"), Options(seed=7), recorded=recorded)
    assert (Path("elsewhere/again") / "model.safetensors").read_bytes() == whole
    (Path("elsewhere/a") / "config.json").write_text(json.dumps(config(rope_theta=1)))
    with pytest.raises(FindingsError, match=r"a: config.json is [0-9a-f]{16}\.\.\. now, and was"):
        merge_recipe(reading.recipe, Path("elsewhere/third"), Options(seed=7), recorded=recorded)
    (Path("elsewhere/a") / "config.json").write_text(json.dumps(config()))
    (Path("elsewhere/a") / "chat_template.jinja").write_text("new")
    with pytest.raises(FindingsError, match=r"chat_template.jinja is [0-9a-f]{16}\.\.\. now, and was not there when"):
        merge_recipe(reading.recipe, Path("elsewhere/third"), Options(seed=7), recorded=recorded)
    assert not Path("elsewhere/third").exists()


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (None, "carries no recipe"),
        ({"seed": 1}, "carries no recipe"),
        ({"recipe": LINEAR}, "is damaged"),
        ({"recipe": LINEAR, "format": 9}, "format 9, and this version reads 1"),
        ({"recipe": 3, "format": 1, "seed": 1, "allow_crimes": False, "inputs": []}, "is damaged"),
        ({"recipe": LINEAR, "format": 1, "seed": 1, "allow_crimes": False, "inputs": [{"name": "a"}]}, "is damaged"),
        ({"recipe": LINEAR, "format": 1, "seed": 1, "allow_crimes": False, "inputs": [3]}, "is damaged"),
    ],
)
def test_models_that_do_not_say_how_they_were_made(make_model: MakeModel, facts: Any, message: str) -> None:
    folder = make_model("odd", state=llama(1))
    if facts is not None:
        (folder / "tunemerge_merge.json").write_text(json.dumps(facts))
    with pytest.raises(UsageError, match=message):
        read_merged(folder)


def test_the_card_and_the_metadata(make_model: MakeModel) -> None:
    a, b = pair(make_model)
    (a / "README.md").write_text("---\nlicense: mit\ntags: [x]\n---\n# a\n")
    (b / "README.md").write_text("---\nlicense: other\nlicense_name: my-own\n---\n")
    out = merged(LINEAR + "# a ``` fence\n", seed=3)
    card = (out / "README.md").read_text()
    assert "| a | mit |" in card and "| b | my-own |" in card and "licences of the inputs differ" in card
    assert "````yaml\n" in card and "license:" not in card.partition("# out")[0] and "9 tensors by `linear`" in card
    with safe_open(out / "model.safetensors", "np") as file:
        facts = json.loads(file.metadata()["tunemerge"])
    assert facts["recipe"].startswith("merge_method: linear") and facts["seed"] == 3
    assert facts["inputs"][0]["files"].keys() == {"model.safetensors", "config.json", "tokenizer.json"}
    (b / "README.md").write_text("---\nlicense: mit\n---\n")
    assert '\nlicense: "mit"\n' in (merged(LINEAR) / "README.md").read_text()
    (b / "README.md").write_text("---\nlicense: [\n---\n")
    assert "| b | not stated |" in (merged(LINEAR) / "README.md").read_text()


def test_crimes_are_refused_or_named(make_model: MakeModel) -> None:
    a, b = pair(make_model)
    state = llama(3)
    del state["model.norm.weight"]
    make_model("c", state=state, config={**config(), "model_type": "mistral"})
    text = LINEAR.replace("model: b", "model: c")
    with pytest.raises(FindingsError) as caught:
        merged(text)
    assert {f.code for f in caught.value.findings} == {"tensor-names", "architecture"}
    told: list[Finding] = []
    out = merged(text, tell=told, allow_crimes=True)
    assert numbers(out)["model.norm.weight"] == 1 and numbers(out)[HEAD] == 2
    waived = [f.message for f in told if "Waived by --allow-crimes" in f.message]
    assert len(waived) == 2 and "each tensor is merged among the models that have it" in "".join(waived)
    assert read_json(out / "tunemerge_merge.json")["allow_crimes"] is True
    assert a.exists() and b.exists()


def test_unrelated_models_and_lost_digits_are_told(make_model: MakeModel) -> None:
    make_model("one", 1), make_model("two", 2)
    told: list[Finding] = []
    merged(LINEAR.replace("model: a", "model: one").replace("model: b", "model: two") + "dtype: bfloat16", tell=told)
    by_code = {f.code: f for f in told}
    assert "correlate with those of" in by_code["lineage"].message and "two" in by_code["lineage"].where
    assert by_code["dtype-loss"].message == "5 tensors stored as F32 are written as BF16"
    near = {name: a + np.float32(1e-3) if a.dtype == np.float32 else a for name, a in tensors(Path("one")).items()}
    make_model("near", state=near)
    told.clear()
    merged(LINEAR.replace("model: a", "model: one").replace("model: b", "model: near"), "other", tell=told)
    assert told == []


def test_an_average_that_fits_nothing_is_refused(make_model: MakeModel) -> None:
    pair(make_model)
    with pytest.raises(FindingsError, match=r"'clasifier' of `average` is part of no tensor's name"):
        merged(LINEAR + "average: [clasifier]")


def test_shards_and_no_tokenizer(make_model: MakeModel) -> None:
    pair(make_model)
    out = merged(LINEAR, shard_bytes=200, copy_tokenizer=False)
    assert not (out / "tokenizer.json").exists() and (out / "model.safetensors.index.json").exists()
    assert numbers(out)[HEAD] == 2


def test_a_recipe_beside_its_models(make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair(make_model)
    Path("recipe.yaml").write_text(LINEAR)
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    out = merge_recipe(load_recipe(tmp_path / "recipe.yaml"), Path("out"))
    assert numbers(out)[HEAD] == 2


def test_models_are_aligned_first(make_model: MakeModel) -> None:
    rng = np.random.default_rng(0)
    one = {
        "l.0.weight": rng.normal(size=(16, 8)),
        "l.0.bias": rng.normal(size=16),
        "l.1.weight": rng.normal(size=(4, 16)),
    }
    order = rng.permutation(16)
    two = {
        "l.0.weight": one["l.0.weight"][order],
        "l.0.bias": one["l.0.bias"][order],
        "l.1.weight": one["l.1.weight"][:, order],
    }
    for name, state in (("a", one), ("b", two)):
        folder = make_model(name, state={key: value.astype(np.float32) for key, value in state.items()}, config={})
        (folder / "tokenizer.json").unlink()
    told: list[Finding] = []
    out = merged(LINEAR + "align: weight_matching\n", tell=told)
    for name, array in tensors(out).items():
        np.testing.assert_allclose(array, one[name], atol=1e-6)
    assert any(f.code == "aligned" and "now 1.000" in f.message for f in told)


def test_one_checkpoint_s_modules(make_model: MakeModel) -> None:
    both = {f"{side}.{name}": array for side in ("encoder", "decoder") for name, array in llama(1, head=False).items()}
    make_model("a", state=both, config=config())
    make_model("b", state={name: array + np.float32(2) for name, array in both.items()}, config=config())
    out = merged("""
merge_method: linear
modules:
  encoder: {models: [{model: a}, {model: b}], parameters: {weight: 1}}
  decoder: {models: [{model: b}], parameters: {weight: 1}}
""")
    found = numbers(out)
    assert found["encoder.model.norm.weight"] == 2 and found["decoder.model.norm.weight"] == 3


def test_a_union_of_tokenizers(make_model: MakeModel) -> None:
    for name, tokens in (("one", ["<unk>", "x", "y"]), ("two", ["<unk>", "y", "z"])):
        words(Path(name), tokens, config=config(1))
        state = llama(0, layers=1)
        start = 10 if name == "one" else 20
        for part in (WORDS, HEAD):  # row i of a model is its start + i
            state[part] = np.repeat(np.arange(start, start + 3, dtype=np.float32)[:, None], 4, 1)
        folder = make_model(f"{name}-weights", state=state)
        (folder / "model.safetensors").rename(Path(name) / "model.safetensors")
    text = "merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: one}, {model: two}]\n"
    out = merged(text + "tokenizer: {source: union, pad_to_multiple_of: 8}\nchat_template: chatml\n")
    vocabulary = read_json(out / "tokenizer.json")["model"]["vocab"]
    assert vocabulary == {"<unk>": 0, "x": 1, "y": 2, "z": 3}
    found = tensors(out)
    for name in (WORDS, HEAD):  # what one model lacks is the other's; padding is the mean
        assert found[name][:, 0].tolist() == [15, 11, (12 + 21) / 2, 22, *[16.125] * 4]
    assert read_json(out / "config.json")["vocab_size"] == 8
    assert "im_start" in (out / "chat_template.jinja").read_text()


def test_a_model_of_the_hub_is_repeated_at_its_commit(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    home = tmp_path / "hub" / "models--org--tuned"
    (home / "refs").mkdir(parents=True)
    for commit, value in (("1" * 40, 1.0), ("2" * 40, 2.0)):
        make_model(f"hub/models--org--tuned/snapshots/{commit}", state=llama(value), config=config())
        (home / "refs" / "v1").write_text(commit)  # the tag moves on
        out = merged(
            "merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: org/tuned@v1}]", f"out{commit[0]}"
        )
        assert numbers(out)[WORDS] == value
    first = read_json(Path("out1/tunemerge_merge.json"))["inputs"][0]
    assert (first["name"], first["revision"], first["commit"]) == ("org/tuned", "v1", "1" * 40)
    shutil.copytree("out1", "moved/deep/out1")  # from where nothing lies where it was
    reading, recorded = read_merged(Path("moved/deep/out1"))
    assert reading.recipe is not None
    assert numbers(merge_recipe(reading.recipe, Path("again"), recorded=recorded))[WORDS] == 1
    assert 'base_model:\n- "org/tuned"' in Path("again/README.md").read_text()


def test_a_fault_is_known_before_anything_is_downloaded(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from tunemerge.errors import CheckpointError
    from tunemerge.merge.recipe import inputs

    pair(make_model)
    make_model("small", state=llama(1, layers=2), config=config(2))
    downloads: list[str] = []

    def locate(name: str, revision: str | None, download: bool) -> Path:
        if name == "org/far":
            downloads.extend([name] * download)
            raise CheckpointError(f"{name}: not here")
        return Path(name)

    monkeypatch.setattr(inputs, "locate", locate)
    with pytest.raises(FindingsError, match="lacks 2 of the 9 tensors"):
        merged(LINEAR.replace("{model: b}", "{model: small}, {model: org/far}"))
    assert downloads == []
    with pytest.raises(FindingsError, match="org/far: not here"):
        merged(LINEAR.replace("{model: b}", "{model: org/far}"))
    assert downloads == ["org/far"]


def test_an_adapter_on_an_intermediate(make_model: MakeModel) -> None:
    pair(make_model)
    factors = linear(4, 4, rank=2)
    write_lora(Path("lora"), {"model.layers.0.mlp.up": factors}, lora_alpha=4)
    text = f"name: half\n{LINEAR}---\nmerge_method: linear\nparameters: {{weight: 1}}\nmodels: [{{model: half+lora}}]\n"
    change = 2 * factors["lora_B.weight"].astype(np.float64) @ factors["lora_A.weight"].astype(np.float64)
    np.testing.assert_allclose(tensors(merged(text))["model.layers.0.mlp.up.weight"], 2 + change, atol=2e-6)
    assert read_json(Path("out/tunemerge_merge.json"))["inputs"][-1]["kind"] == "adapter"
    nested = text.replace("half+lora", "more") + "---\nname: more\nmerge_method: linear\n"
    nested += "parameters: {weight: 1}\nmodels: [{model: half+lora}, {model: a+lora}]\n"
    np.testing.assert_allclose(tensors(merged(nested))["model.layers.0.mlp.up.weight"], 1.5 + change, atol=2e-6)
