from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tunemerge.checkpoint.header import read_header
from tunemerge.checkpoint.model import open_checkpoint, read_json
from tunemerge.checkpoint.reader import read_tensor, to_float32
from tunemerge.checkpoint.source import open_model
from tunemerge.errors import CheckpointError, TunemergeError, UsageError
from tunemerge.findings import FindingsError
from tunemerge.graph.operation import Job
from tunemerge.merge.memory import merge_state
from tunemerge.merge.method import METHODS
from tunemerge.merge.operation import merge as merge_step
from tunemerge.merge.recipe.documents import parse_recipe
from tunemerge.merge.recipe.options import Options
from tunemerge.merge.recipe.plain import plain_document
from tunemerge.merge.recipe.provenance import read_merged
from tunemerge.merge.recipe.run import merge_recipe
from tunemerge.store.digest import digest_file, digest_folder

MakeModel = Callable[..., Path]


def states(*folders: Path) -> list[dict[str, np.ndarray]]:
    opened = [open_checkpoint(folder) for folder in folders]
    return [{name: read_tensor(c, name) for name in c.tensors} for c in opened]


def merge_files(
    method: str,
    models: Sequence[Path],
    out: Path,
    *,
    base: Path | None = None,
    parameters: Mapping[str, Any] | None = None,
    options: Options | None = None,
    **keys: Any,
) -> Path:
    """By the recipe of whole models; `keys` are added to it."""
    everyone = [*models, *([base] if base else [])]
    names = [open_checkpoint(model).tensors.keys() for model in everyone]
    average = keys.pop("average", ())
    document = plain_document(METHODS[method], names, base is not None, parameters or {}, average=average)
    text = json.dumps({**document.data, **keys})
    for i, model in enumerate(everyone):
        text = text.replace(f'"model:{i}"', json.dumps(str(model)))
    return merge_recipe(parse_recipe(text, out.parent / "recipe.yaml"), out, options)


@pytest.mark.parametrize("method", METHODS.names())
@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_files_memory_threads_and_shards_agree(method: str, dtype: str, make_model: MakeModel, tmp_path: Path) -> None:
    count = min(2, METHODS[method].max_models or 2)
    models = [make_model(f"m{i}", i + 1, dtype) for i in range(count)]
    base = make_model("base", 0, dtype)
    given = METHODS[method].grid(count, 2)[-1]
    in_memory = merge_state(method, states(*models), states(base)[0], given, seed=3)
    whole = None
    for threads, shard in [(1, 10**9), (2, 10**9), (8, 600)]:
        options = Options(seed=3, threads=threads, shard_bytes=shard)
        out = merge_files(method, models, tmp_path / "out", base=base, parameters=given, options=options)
        (merged,) = states(out)
        assert merged.keys() == in_memory.keys()
        for name, array in in_memory.items():
            assert merged[name].tobytes() == array.tobytes(), (name, threads)
        if shard == 10**9:
            whole = whole or digest_folder(out)[0]
            assert digest_folder(out)[0] == whole
        else:
            assert len(open_checkpoint(out).files) > 1


def test_a_single_expert_at_weight_one_is_itself(make_model: MakeModel, tmp_path: Path) -> None:
    model, base = make_model("m", 1), make_model("base", 0)
    for method in ("task_arithmetic", "ties", "dare_ties"):
        out = merge_files(method, [model], tmp_path / method, base=base, parameters={"weight": 1.0})
        assert all(np.array_equal(a, states(model)[0][n]) for n, a in states(out)[0].items()), method


def test_heads_are_averaged_whatever_the_method(make_model: MakeModel, tmp_path: Path) -> None:
    one, two = make_model("one", 1), make_model("two", 2)
    headless = {n: a for n, a in states(make_model("all", 0))[0].items() if not n.startswith("classifier")}
    base = make_model("base", state=headless)
    parameters = {"weight": [0.2, 0.6]}
    with pytest.raises(FindingsError, match=r"base: lacks 1 of the 6 tensors .*classifier.weight"):
        merge_files("task_arithmetic", [one, two], tmp_path / "out", base=base, parameters=parameters)
    a, b = (s["classifier.weight"] for s in states(one, two))
    expected = (0.25 * a.astype(np.float64) + 0.75 * b.astype(np.float64)).astype(np.float32)
    average = ["classifier.", "nobody's"]
    out = merge_files(
        "task_arithmetic", [one, two], tmp_path / "out", base=base, parameters=parameters, average=average
    )
    np.testing.assert_allclose(states(out)[0]["classifier.weight"], expected, rtol=2e-7)
    record = json.loads((tmp_path / "out" / "tunemerge_merge.json").read_text())
    assert record["methods"]["linear"]["tensors"] == 1
    assert record["methods"]["task_arithmetic"]["parameters"]["weight"] == [0.2, 0.6]


def test_config_and_tokenizer_come_from_the_base_or_the_first_model(make_model: MakeModel, tmp_path: Path) -> None:
    one, two, base = make_model("one", 1), make_model("two", 2), make_model("base", 0)
    (base / "README.md").write_text("not copied")
    out = merge_files("ties", [one, two], tmp_path / "a", base=base)
    assert json.loads((out / "tokenizer.json").read_text()) == {"from": "base"}
    assert "not copied" not in (out / "README.md").read_text()
    out = merge_files("linear", [one, two], tmp_path / "b", out_dtype="bfloat16")
    assert json.loads((out / "tokenizer.json").read_text()) == {"from": "one"}
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"
    merged = open_checkpoint(out)
    assert merged.tensors["classifier.weight"].dtype == "BF16"
    assert merged.tensors["embeddings.position_ids"].dtype == "I64"


def test_mixed_dtypes_keep_the_base_s(make_model: MakeModel, tmp_path: Path) -> None:
    one, two, base = make_model("one", 1, "F16"), make_model("two", 2, "F32"), make_model("base", 0, "BF16")
    out = merge_files("task_arithmetic", [one, two], tmp_path / "out", base=base, parameters={"weight": 0.5})
    assert open_checkpoint(out).tensors["classifier.weight"].dtype == "BF16"
    name = "encoder.layer.0.attention.weight"
    wide = [to_float32(s[name], d).astype(np.float64) for s, d in zip(states(one, two), ("F16", "F32"), strict=True)]
    found = to_float32(states(out)[0][name], "BF16")
    assert np.abs(found - sum(wide) / 2).max() <= 2**-8 * np.abs(found).max()


def test_nan_is_refused_with_every_tensor_and_file(make_model: MakeModel, tmp_path: Path) -> None:
    state = states(make_model("good", 1))[0]
    state["classifier.weight"][1, 3] = np.nan
    state["encoder.layer.1.norm.bias"][5] = -np.inf
    bad, good = make_model("bad", state=state), make_model("two", 2)
    with pytest.raises(FindingsError) as caught:
        merge_files("linear", [good, bad], tmp_path / "out")
    text = str(caught.value)
    assert f"{bad / 'model.safetensors'}: classifier.weight: NaN at element 19" in text
    assert "encoder.layer.1.norm.bias: Inf at element 5" in text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad", "good", "two"]


def test_different_position_ids_are_refused(make_model: MakeModel, tmp_path: Path) -> None:
    state = states(make_model("one", 1))[0]
    state["embeddings.position_ids"] = state["embeddings.position_ids"] + 1
    with pytest.raises(FindingsError, match=r"position_ids: differs from .* only copied"):
        merge_files("linear", [tmp_path / "one", make_model("two", state=state)], tmp_path / "out")


def test_too_large_for_the_output_dtype(make_model: MakeModel, tmp_path: Path) -> None:
    big, other = (make_model(name, state={"w": np.full((3, 3), 60000, np.float32)}) for name in ("big", "other"))
    given = {"weight": 1.0, "normalize": False}
    with pytest.raises(FindingsError, match="does not fit F16"):
        merge_files("linear", [big, other], tmp_path / "out", parameters=given, out_dtype="float16")


def test_mismatches_come_all_at_once(make_model: MakeModel, tmp_path: Path) -> None:
    one = make_model("one", 1)
    state = states(one)[0]
    state["classifier.weight"] = np.zeros((3, 16), np.float32)
    del state["encoder.layer.1.norm.bias"]
    state["extra"] = np.zeros(3, np.float32)
    with pytest.raises(FindingsError) as caught:
        merge_files("linear", [one, make_model("two", state=state)], tmp_path / "out")
    text = str(caught.value)
    assert "classifier.weight [3, 16] instead of [2, 16]" in text
    assert "two: lacks 1 of the 7 tensors" in text and "encoder.layer.1.norm.bias" in text
    assert "one: lacks 1 of the 7 tensors" in text and "extra" in text


def test_an_output_is_replaced_only_if_it_was_a_merge(make_model: MakeModel, tmp_path: Path) -> None:
    one, two = make_model("one", 1), make_model("two", 2)
    with pytest.raises(UsageError, match="is one of the inputs"):
        merge_files("linear", [one, two], one)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("all my work")
    with pytest.raises(UsageError, match="was not made here"):
        merge_files("linear", [one, two], mine)
    assert (mine / "thesis.tex").read_text() == "all my work"
    out = merge_files("linear", [one, two], tmp_path / "out")
    before = digest_folder(out)[0]
    with pytest.raises(FindingsError):
        merge_files("slerp", [one, two, two], out)
    assert digest_folder(out)[0] == before
    merge_files("slerp", [one, two], out, parameters={"t": 0.1})
    assert digest_folder(out)[0] != before


def test_an_output_that_holds_an_input_or_is_a_link_is_let_alone(make_model: MakeModel, tmp_path: Path) -> None:
    one, two = make_model("one", 1), make_model("two", 2)
    out = merge_files("linear", [one, two], tmp_path / "out")
    expert = out / "experts" / "three"
    shutil.copytree(one, expert)
    for model in (expert, out / "model.safetensors"):
        with pytest.raises(UsageError, match=f"holds {model}, one of the inputs"):
            merge_files("linear", [model, two], out)
    assert (expert / "model.safetensors").exists()
    link = tmp_path / "link"
    link.symlink_to(out)
    with pytest.raises(UsageError, match=f"is a link .to {out}"):
        merge_files("linear", [one, two], link)
    assert link.is_symlink()


def test_a_wide_output_has_all_digits(make_model: MakeModel, tmp_path: Path) -> None:
    one, two = make_model("one", 1), make_model("two", 2)
    out = merge_files("linear", [one, two], tmp_path / "out", parameters={"weight": [1, 2]}, out_dtype="float64")
    a, b, merged = states(one, two, out)
    for name, value in merged.items():
        if value.dtype == np.float64:
            np.testing.assert_allclose(value, (a[name].astype(float) + 2.0 * b[name]) / 3, rtol=1e-14, atol=1e-17)


def test_a_file_that_is_written_anew_after_its_header_was_read_is_refused(make_model: MakeModel) -> None:
    model = make_model("one", 1)
    opened = open_checkpoint(model)
    make_model("other", 2, "BF16").joinpath("model.safetensors").replace(model / "model.safetensors")
    with pytest.raises(CheckpointError, match="written anew"), open_model(opened):
        pass


def test_the_output_points_at_no_code(make_model: MakeModel, tmp_path: Path) -> None:
    one, two = make_model("one", 1), make_model("two", 2)
    config = json.loads((one / "config.json").read_text())
    (one / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "stranger/repo--m.Model"}}))
    out = merge_files("linear", [one, two], tmp_path / "out")
    assert json.loads((out / "config.json").read_text()) == config


def test_tokenizers_with_other_numbers_are_refused(make_model: MakeModel, tmp_path: Path) -> None:
    one, two = make_model("one", 1), make_model("two", 2)
    for folder, words in ((one, ["a", "b", "c"]), (two, ["a", "c", "b"])):
        vocab = {word: i for i, word in enumerate(words)}
        (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "WordPiece", "vocab": vocab}}))
    with pytest.raises(FindingsError, match=r"2 tokens with other numbers \('b', 'c'\)"):
        merge_files("linear", [one, two], tmp_path / "out")


def test_a_full_disk_is_one_clear_error(make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = make_model("one", 1)

    def full(fd: int, data: object, offset: int) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.pwrite", full)
        with pytest.raises(TunemergeError, match="No space left on device"):
            merge_files("linear", [one], tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one"]
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
        with pytest.raises(UsageError, match=r"needs 0\.00 GB of disk"):
            merge_files("linear", [one], tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="can't write there"):
        merge_files("linear", [one], tmp_path / "file" / "out")


KILLED = r"""
import os, signal, sys, time
from pathlib import Path
from tunemerge.merge.recipe.documents import parse_recipe
from tunemerge.merge.recipe.run import merge_recipe
from tunemerge.merge.recipe.options import Options
def progress(fraction, message):
    if fraction > 0.3:
        print("half", flush=True)
        time.sleep(60)
text = "merge_method: linear\nparameters: {weight: 1}\nmodels:\n" + "".join(f"- model: {a}\n" for a in sys.argv[2:])
recipe = parse_recipe(text, Path("recipe.yaml"))
merge_recipe(recipe, Path(sys.argv[1]), Options(threads=1), progress=progress)
"""


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_merge_leaves_what_was_there(kind: int, make_model: MakeModel, tmp_path: Path) -> None:
    one, two = make_model("one", 1), make_model("two", 2)
    out = merge_files("slerp", [one, two], tmp_path / "out", parameters={"t": 0.5})
    before = digest_folder(out)[0]
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(out), str(one), str(two)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None and process.stdout.readline() == b"half\n"
    process.send_signal(kind)
    process.wait(10)
    process.stdout.close()
    assert digest_folder(out)[0] == before
    left = [p.name for p in tmp_path.iterdir() if p.name.endswith(".unfinished")]
    assert len(left) == (1 if kind == signal.SIGKILL else 0)
    merge_files("linear", [one, two], out)
    assert digest_folder(out)[0] != before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "out", "two"]


def test_the_step_takes_parameters_from_the_choice(make_model: MakeModel, tmp_path: Path) -> None:
    models, base = (make_model("one", 1), make_model("two", 2)), make_model("base", 0)
    choice = tmp_path / "choice"
    choice.mkdir()
    (choice / "choice.json").write_text(json.dumps({"trials": [], "chosen": 0, "parameters": {"weight": 0.3}}))
    params = {"method": "task_arithmetic", "parameters": {"weight": 0.9}, "average": ["classifier."], "seed": 0}
    merged = []
    for inputs in ({"choice": (choice,)}, {}):
        out = tmp_path / f"step{len(merged)}"
        out.mkdir()
        merge_step(Job(params, {"models": models, "base": (base,), **inputs}, out))
        merged.append(states(out)[0])
    record = read_json(tmp_path / "step0" / "tunemerge_merge.json")
    assert [entry["name"] for entry in record["inputs"]] == ["model:0", "model:1", "model:2"]
    assert record["inputs"][2]["files"]["model.safetensors"] == digest_file(base / "model.safetensors")
    assert json.loads(record["recipe"])["parameters"] == {"weight": 0.3}
    assert (
        json.loads(read_header(tmp_path / "step0" / "model.safetensors").metadata["tunemerge"]).items() < record.items()
    )
    with pytest.raises(UsageError, match="one step of several"):
        read_merged(tmp_path / "step0")
    one, two, start = states(*models, base)
    name = "encoder.layer.0.attention.weight"
    for weight, state in zip((0.3, 0.9), merged, strict=True):
        expected = start[name] + weight * (one[name] - start[name]) + weight * (two[name] - start[name])
        np.testing.assert_allclose(state[name], expected, atol=1e-6)
        np.testing.assert_allclose(
            state["classifier.weight"], (one["classifier.weight"] + two["classifier.weight"]) / 2, atol=1e-7
        )
