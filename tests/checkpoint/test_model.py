from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tunemerge.checkpoint.model import INDEX, SINGLE, open_checkpoint
from tunemerge.checkpoint.reader import FileReader, from_float32, read_tensor, to_float32
from tunemerge.checkpoint.writer import CheckpointWriter, TensorSpec, split_shards
from tunemerge.errors import CheckpointError

STATE = {
    "a": np.arange(12, dtype=np.float32).reshape(3, 4),
    "b": np.arange(5, dtype=np.uint16),
    "ids": np.arange(4, dtype=np.int64),
    "scalar": np.array(2.5, np.float32),
    "empty": np.zeros((0, 3), np.float32),
}
SPECS = {
    "a": TensorSpec("F32", (3, 4)),
    "b": TensorSpec("BF16", (5,)),
    "ids": TensorSpec("I64", (4,)),
    "scalar": TensorSpec("F32", ()),
    "empty": TensorSpec("F32", (0, 3)),
}


def written(folder: Path, shard_bytes: int = 10**9) -> Path:
    folder.mkdir()
    writer = CheckpointWriter(folder, SPECS, {"origin": "a test"}, shard_bytes)
    for name in reversed(STATE):
        flat = STATE[name].reshape(-1)
        for start in range(0, flat.size, 5):
            writer.write(name, start, flat[start : start + 5])
    writer.close()
    (folder / "config.json").write_text('{"model_type": "x"}')
    return folder


@pytest.mark.parametrize("shard_bytes", [10**9, 40])
def test_what_is_written_is_read(tmp_path: Path, shard_bytes: int) -> None:
    model = open_checkpoint(written(tmp_path / "m", shard_bytes))
    assert model.config == {"model_type": "x"} and model.has_config
    assert list(model.tensors) == sorted(STATE)
    assert (len(model.files) > 1) == (shard_bytes == 40)
    for name, array in STATE.items():
        found = read_tensor(model, name)
        assert found.dtype == array.dtype and found.shape == array.shape and np.array_equal(found, array), name
    assert model.size == sum(a.nbytes for a in STATE.values())


def test_torch_s_own_library_reads_it(tmp_path: Path) -> None:
    from safetensors import safe_open

    with safe_open(written(tmp_path / "m") / "model.safetensors", "numpy") as file:
        assert file.metadata() == {"format": "pt", "origin": "a test"}
        assert np.array_equal(file.get_tensor("a"), STATE["a"])


def test_a_single_file(tmp_path: Path) -> None:
    model = open_checkpoint(written(tmp_path / "m") / "model.safetensors")
    assert not model.has_config and np.array_equal(read_tensor(model, "a"), STATE["a"])
    with pytest.raises(CheckpointError, match="no tensor 'c'"):
        read_tensor(model, "c")


@pytest.mark.parametrize(
    "name",
    [
        *("../other/model.safetensors", "/etc/model.safetensors", "sub/model.safetensors", "..\\x.safetensors"),
        *("C:x.safetensors", "x\0.safetensors", "pytorch_model.bin", "", 3, None),
    ],
)
def test_an_index_can_t_lead_out_of_the_folder(tmp_path: Path, name: object) -> None:
    written(tmp_path / "other")
    folder = written(tmp_path / "m", 40)
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"]["a"] = name
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"only plain \.safetensors file names"):
        open_checkpoint(folder)


def test_links_stay_inside_or_are_the_hub_s(tmp_path: Path) -> None:
    other = written(tmp_path / "other")
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "model.safetensors").symlink_to(other / "model.safetensors")
    with pytest.raises(CheckpointError, match="a link that leaves the model's folder"):
        open_checkpoint(folder)
    blobs, snapshot = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (other / "model.safetensors").rename(blobs / "0123")
    (snapshot / "model.safetensors").symlink_to("../../blobs/0123")
    assert "a" in open_checkpoint(snapshot).tensors
    (snapshot / "config.json").symlink_to(other / "config.json")
    with pytest.raises(CheckpointError, match=r"config\.json: a link"):
        open_checkpoint(snapshot)


def test_what_else_may_lie_in_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    with pytest.raises(CheckpointError, match="no such model folder"):
        open_checkpoint(folder)
    folder.mkdir()
    with pytest.raises(CheckpointError, match=r"neither model\.safetensors nor"):
        open_checkpoint(folder)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="an adapter, not a whole model"):
        open_checkpoint(folder)
    (folder / "pytorch_model.bin").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=r"only pickled weights.*save_pretrained"):
        open_checkpoint(folder)
    with pytest.raises(CheckpointError, match=r"not a \.safetensors file"):
        open_checkpoint(folder / "pytorch_model.bin")


def test_index_and_files_must_agree(tmp_path: Path) -> None:
    folder = written(tmp_path / "m", 40)
    whole = (folder / INDEX).read_text()
    index = json.loads(whole)
    index["weight_map"]["ghost"] = index["weight_map"]["a"]
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="disagree about 1 tensors, first 'ghost'"):
        open_checkpoint(folder)
    (folder / INDEX).write_text(whole)
    (folder / json.loads(whole)["weight_map"]["a"]).unlink()
    with pytest.raises(CheckpointError, match=r"1 of \d files are missing"):
        open_checkpoint(folder)
    (folder / INDEX).write_text("{}")
    with pytest.raises(CheckpointError, match="has no weight_map"):
        open_checkpoint(folder)


@pytest.mark.parametrize("text", ["[1]", "{", '{"a": ' + "[" * 100_000])
def test_config_must_be_an_object(tmp_path: Path, text: str) -> None:
    folder = written(tmp_path / "m")
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json: not (JSON|a JSON object)"):
        open_checkpoint(folder)


def test_a_file_cut_short_while_reading(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(10))
    with FileReader(path) as reader, pytest.raises(CheckpointError, match="ended at byte 10 while"):
        reader.read_into(np.empty(4, np.float32), 0)


def test_shards_are_cut_by_size() -> None:
    specs = {f"t{i}": TensorSpec("F32", (n,)) for i, n in enumerate([10, 10, 10, 100, 1])}
    assert split_shards(specs, 80) == [["t0", "t1"], ["t2"], ["t3"], ["t4"]]


def test_bfloat16_rounds_to_nearest_even_like_torch() -> None:
    import torch

    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 50_000, dtype=np.uint64).astype(np.uint32)
    halfway = (bits & np.uint32(0xFFFF0000)) | np.uint32(0x8000)
    values = np.concatenate([bits, halfway]).view(np.float32)
    values = values[~np.isnan(values)]
    expected = torch.from_numpy(values).bfloat16()
    assert np.array_equal(from_float32(values, "BF16"), expected.view(torch.int16).numpy().view(np.uint16))
    assert np.array_equal(to_float32(from_float32(values, "BF16"), "BF16"), expected.float().numpy())


def test_conversions_keep_nan_inf_and_shape() -> None:
    special = np.array([[np.nan, np.inf], [-np.inf, -0.0]], np.float32)
    for dtype in ("F64", "F32", "F16", "BF16"):
        back = to_float32(from_float32(special, dtype), dtype)
        np.testing.assert_array_equal(back, special)
        assert np.signbit(back[1, 1])
    assert from_float32(np.float32(70000), "F16") == np.inf
    assert from_float32(np.array(1.5, np.float32), "BF16").shape == ()
    with pytest.raises(ValueError, match="I64"):
        to_float32(np.zeros(1), "I64")


def test_any_folder_of_safetensors(tmp_path: Path) -> None:
    folder = written(tmp_path / "m")
    (folder / SINGLE).rename(folder / "diffusion_pytorch_model.safetensors")
    whole = open_checkpoint(folder)
    assert whole.files == ("diffusion_pytorch_model.safetensors",) and "a" in whole.tensors
    shards = written(tmp_path / "s", 40)
    (shards / INDEX).rename(shards / "weights.safetensors.index.json")
    assert open_checkpoint(shards).tensors.keys() == whole.tensors.keys()
    (shards / "weights.safetensors.index.json").unlink()
    loose = open_checkpoint(shards)
    assert len(loose.files) > 1 and loose.tensors.keys() == whole.tensors.keys()
    (shards / "adapter_model.safetensors").write_bytes(b"not counted")
    assert open_checkpoint(shards).files == loose.files
    (shards / "zz.safetensors").write_bytes((shards / loose.files[0]).read_bytes())
    with pytest.raises(CheckpointError, match=r"zz\.safetensors: tensor .* is also in model-00001"):
        open_checkpoint(shards)
    for name in ("one", "two"):
        (folder / f"{name}.safetensors.index.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"2 indexes: one\.safetensors\.index\.json, two"):
        open_checkpoint(folder)
