"""Everything at once, before any work: what is found, and that nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tokenizing import words
from tunemerge.checkpoint.dtypes import Array
from tunemerge.merge.recipe import needs
from tunemerge.merge.recipe.documents import read_recipe
from tunemerge.merge.recipe.options import Options
from tunemerge.merge.recipe.preflight import Preflight, preflight

MakeModel = Callable[..., Path]


def state(layers: int = 2, vocabulary: int = 6, seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    shapes = {"model.embed_tokens.weight": (vocabulary, 4), "model.norm.weight": (4,)}
    for i in range(layers):
        shapes |= {f"model.layers.{i}.mlp.up.weight": (8, 8), f"model.layers.{i}.norm.weight": (4,)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def look(text: str, out: Path | None = None, **options: object) -> Preflight:
    before = sorted(Path().rglob("*"))
    found = preflight(read_recipe(text, Path("recipe.yaml")), Path("recipe.yaml"), out, Options(**options))  # type: ignore[arg-type]
    assert sorted(Path().rglob("*")) == before
    return found


def codes(found: Preflight) -> list[str]:
    return [f.code for f in found.findings]


@pytest.fixture(autouse=True)
def models(make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "base"):
        (make_model(name, state=state(), config={"model_type": "llama"}) / "tokenizer.json").unlink()


TEXT = """merge_method: ties
base_model: base
models: [{model: a}, {model: b}]
parameters: {weight: 1}
"""


def test_nothing_wrong() -> None:
    found = look(TEXT)
    assert found.findings == () and [p.names for p in found.planned] == [("a", "b", "base")]


def test_faults_of_the_recipe_and_of_the_models_come_together(make_model: MakeModel) -> None:
    Path("pickled").mkdir()
    Path("pickled/pytorch_model.bin").write_bytes(b"")
    make_model("wide", state=state(vocabulary=7), config={"model_type": "gpt2"})
    found = look(
        TEXT.replace("{model: b}", "{model: pickled}, {model: wide}, {model: ./nowhere}, {model: org/far}")
        + "parametres: 1\n"
    )
    assert sorted(codes(found)) == [
        *("architecture", "checkpoint-unreadable", "no-such-model", "not-checked", "not-here"),
        *("recipe-key", "tensor-shapes", "tokenizer-missing", "tokenizer-missing"),
    ]
    messages = "\n".join(map(str, found.findings))
    assert "only pickled weights" in messages and "did you mean 'parameters'" in messages
    assert "embed_tokens.weight [7, 4] instead of [6, 4]" in messages


def test_an_unknown_method_does_not_hide_missing_models() -> None:
    assert codes(look(TEXT.replace("ties", "tise").replace("{model: b}", "{model: ./b2}"))) == [
        "unknown-name",
        "no-such-model",
    ]


def test_a_bad_value_is_found_once_and_the_plan_goes_on() -> None:
    found = look(TEXT.replace("weight: 1", "weight: 1, density: 3"))
    assert codes(found) == ["recipe-value"] and len(found.planned) == 1


DOCUMENTS = (
    "name: left\nmerge_method: linear\nparameters: {weight: 1}\nmodels: [{model: a}, {model: b}]\n---\n"
    "name: tall\nmerge_method: passthrough\nslices:\n- sources: [{model: left, layer_range: [0, 2]}]\n"
    "- sources: [{model: left, layer_range: [1, 2]}]\n---\n"
    "merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: tall}, {model: OTHER}]\n"
)


def test_documents_are_checked_against_what_earlier_ones_will_make(make_model: MakeModel) -> None:
    found = look(DOCUMENTS.replace("OTHER", "b"))
    assert codes(found) == ["config-layers", "tensor-names"]
    assert "lacks 2 of the 8 tensors" in found.findings[1].message and len(found.planned) == 3
    (make_model("b3", state=state(3), config={"model_type": "llama"}) / "tokenizer.json").unlink()
    assert codes(look(DOCUMENTS.replace("OTHER", "b3"))) == ["config-layers"]
    missing = look(DOCUMENTS.replace("OTHER", "b3").replace("model: a", "model: ./none"))
    assert codes(missing) == ["no-such-model", "not-checked", "not-checked", "not-checked"]


def test_disk_and_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "free_bytes", lambda out: (tmp_path, 10))
    monkeypatch.setattr(needs, "free_memory", lambda: 10)
    assert codes(look(TEXT)) == ["disk-full", "memory-low"]


def test_intermediates_need_the_disk_of_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = {"here": 10**9, "there": 10**9}
    disks = {Path(".tunemerge"): Path("here"), tmp_path / "out": Path("there")}
    monkeypatch.setattr(needs, "free_bytes", lambda path: (disks[path], free[str(disks[path])]))
    monkeypatch.setattr(needs, "_disk", lambda folder: ["here", "there"].index(str(folder)))
    text = DOCUMENTS.replace("OTHER", "b")

    def short() -> list[str]:
        return [f.where for f in look(text, tmp_path / "out").findings if f.code == "disk-full"]

    assert short() == []
    for disk in free:
        with monkeypatch.context() as patch:
            patch.setitem(free, disk, 10)
            assert short() == [disk]


def test_an_input_is_no_output(tmp_path: Path) -> None:
    found = look(TEXT, tmp_path / "a")
    assert codes(found) == ["output-folder"] and "is one of the inputs" in found.findings[0].message


def test_tokenizers_that_differ_and_their_union(make_model: MakeModel) -> None:
    for name, tokens in (("one", ["<unk>", "x", "y"]), ("two", ["<unk>", "y", "z"])):
        words(Path(name), tokens)
        folder = make_model(f"{name}-weights", state=state(vocabulary=3), config={"model_type": "llama"})
        (folder / "model.safetensors").rename(Path(name) / "model.safetensors")
    text = "merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: one}, {model: two}]\n"
    found = look(text)
    assert codes(found) == ["tokenizers-differ"] and "source: union" in found.findings[0].remedy
    assert [f.severity for f in look(text, allow_crimes=True).findings] == ["warning"]
    united = look(text + "tokenizer_source: union\n")
    assert not [f for f in united.findings if f.severity == "error"]
    shapes = {t.name: t.shape for t in united.planned[0].plan.tensors}
    assert shapes["model.embed_tokens.weight"] == (4, 4)
    nested = text.replace("merge_method", "name: both\ntokenizer_source: union\nmerge_method") + "---\n"
    nested += "merge_method: linear\nparameters: {weight: 1}\ntokenizer_source: union\nmodels: [{model: both}]\n"
    assert "not-checked" in codes(look(nested))
