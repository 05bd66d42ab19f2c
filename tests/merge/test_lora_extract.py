from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lora_files import random, values
from tunemerge.checkpoint.adapter import open_adapter
from tunemerge.checkpoint.model import open_checkpoint
from tunemerge.checkpoint.source import open_model
from tunemerge.errors import CheckpointError, TunemergeError, UsageError
from tunemerge.findings import FindingsError
from tunemerge.merge.lora import difference
from tunemerge.merge.lora.adapted import AdaptedModel
from tunemerge.merge.lora.extract import Extraction
from tunemerge.merge.lora.files import extract_adapter

MakeModel = Callable[..., Path]
State = dict[str, np.ndarray]

SHAPES = {
    "embed_tokens.weight": (120, 16),
    "layers.0.up.weight": (40, 16),
    "layers.0.up.bias": (40,),
    "layers.0.down.weight": (16, 40),
    "layers.0.square.weight": (24, 24),
    "layers.0.norm.weight": (16,),
    "layers.0.norm.bias": (16,),
    "layers.1.up.weight": (40, 16),
    "layers.1.up.bias": (40,),
    "conv.weight": (4, 3, 3, 3),
    "score.weight": (2, 16),
    "cls_token": (1, 1, 16),
}


def start() -> State:
    return {name: random(shape, i) for i, (name, shape) in enumerate(SHAPES.items())}


def low(shape: tuple[int, ...], rank: int, seed: int) -> np.ndarray:
    return random((shape[0], rank), seed, 0.3) @ random((rank, shape[1]), seed + 1, 0.3)


def tuned(state: State, rank: int = 3) -> State:
    """Matrices moved by a product of this rank, norms, biases and the rest by anything; layer 1 as it was."""
    out = {}
    for i, (name, array) in enumerate(state.items()):
        matrix = array.ndim == 2 and name != "score.weight"
        moved = low(array.shape, rank, 50 + i) if matrix else random(array.shape, 50 + i, 0.1)
        out[name] = array if name.startswith("layers.1") else array + moved
    return out


def extracted(make_model: MakeModel, base: State, model: State, **given: Any) -> tuple[Extraction, Path]:
    there, here = make_model("tuned", state=model, config={}), make_model("base", state=base, config={})
    out = here.parent / "adapter"
    return extract_adapter(there, here, out, **given), out


def applied(folder: Path, base: Path) -> State:
    with open_model(open_checkpoint(base)) as model:
        view = AdaptedModel(model, open_adapter(folder))
        return {name: values(view, name) for name in view.tensors}


@pytest.mark.parametrize("piece", [1 << 21, 50])
def test_a_difference_of_rank_r_comes_back_at_rank_r(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(difference, "_PIECE", piece)
    base, model = start(), tuned(start())
    found, out = extracted(make_model, base, model, rank=3)
    back = applied(out, tmp_path / "base")
    lost = {row.name for row in found.rows if row.form == "lost"}
    assert lost == {"cls_token"}
    for name, array in model.items():
        if name in lost:
            continue
        # W + d rounds to the model, d is known to its own rounding, and the sum is rounded again.
        near = np.finfo(np.float32).eps * (np.abs(array) + 4 * np.abs(array - base[name]).max())
        assert (np.abs(back[name] - array) <= near).all(), name
    forms = {row.name: (row.form, row.rank) for row in found.rows}
    assert forms["layers.0.square.weight"] == ("low-rank", 3) and forms["embed_tokens.weight"] == ("low-rank", 3)
    assert forms["layers.0.norm.bias"] == forms["conv.weight"] == forms["score.weight"] == ("whole", None)
    assert "layers.1.up.weight" not in forms
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["target_modules"] == ["embed_tokens", "layers.0.down", "layers.0.square", "layers.0.up"]
    assert config["modules_to_save"] == ["conv", "layers.0.norm", "score"]
    assert (config["r"], config["lora_alpha"], config["rank_pattern"], config["bias"]) == (3, 3, {}, "all")
    assert config["base_model_name_or_path"] == str(tmp_path / "base")
    adapter = open_adapter(out)
    assert adapter.products["embed_tokens"].embedding
    product = adapter.products["layers.0.up"]
    a, b = adapter.read(product.a), adapter.read(product.b)
    np.testing.assert_allclose(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=0), rtol=1e-5)


def test_the_rank_is_the_best_of_its_size(make_model: MakeModel, tmp_path: Path) -> None:
    base = {"tall.weight": random((60, 20), 1), "wide.weight": random((20, 60), 2)}
    model = {name: array + random(array.shape, 5 + i) for i, (name, array) in enumerate(base.items())}
    found, out = extracted(make_model, base, model, rank=6)
    back = applied(out, tmp_path / "base")
    for row in found.rows:
        change = model[row.name].astype(np.float64) - base[row.name]
        sizes = np.linalg.svd(change, compute_uv=False) ** 2
        assert row.rank == 6 and row.energy == pytest.approx(sizes[:6].sum() / sizes.sum(), rel=1e-9)
        rest = (model[row.name].astype(np.float64) - back[row.name]) ** 2
        assert rest.sum() == pytest.approx(sizes[6:].sum(), rel=1e-4)
    record = json.loads((out / "tunemerge_adapter.json").read_text())
    assert record["tensors"]["tall.weight"]["energy"] == found.rows[0].energy and record["rank"] == 6


def test_the_rank_follows_the_energy(make_model: MakeModel, tmp_path: Path) -> None:
    base = {"a.weight": random((60, 40), 1), "b.weight": random((60, 40), 2), "c.weight": random((60, 40), 3)}
    changes = [low((60, 40), 2, 1), low((60, 40), 9, 2), random((60, 40), 3)]
    model = {name: array + change for (name, array), change in zip(base.items(), changes, strict=True)}
    found, out = extracted(make_model, base, model, energy=0.9)
    rows = {row.name: row for row in found.rows}
    for name in ("a.weight", "b.weight"):
        sizes = np.linalg.svd(model[name].astype(np.float64) - base[name], compute_uv=False) ** 2
        share = np.cumsum(sizes) / sizes.sum()
        assert rows[name].rank == int((share < 0.9).sum()) + 1 and rows[name].energy >= 0.9
    # 24 values a row and column would be more than the matrix has: it is kept as it is.
    assert (rows["c.weight"].form, rows["c.weight"].energy) == ("whole", 1)
    assert np.array_equal(applied(out, tmp_path / "base")["c.weight"], model["c.weight"])
    config = json.loads((out / "adapter_config.json").read_text())
    ranks = {name: rows[f"{name}.weight"].rank for name in "ab"}
    assert config["r"] == max(ranks.values()) and config["modules_to_save"] == ["c"]
    assert config["rank_pattern"] == {name: r for name, r in ranks.items() if r != config["r"]}
    capped = extract_adapter(tmp_path / "tuned", tmp_path / "base", tmp_path / "capped", energy=0.9, rank=2)
    assert {row.rank for row in capped.rows} <= {1, 2} and {row.form for row in capped.rows} == {"low-rank"}


def test_a_smaller_rank_than_asked_where_the_change_has_no_more(make_model: MakeModel) -> None:
    base = {"a.weight": random((60, 40), 1).astype(np.float64)}
    change = low((60, 40), 2, 1).astype(np.float64)
    found, _ = extracted(make_model, base, {"a.weight": base["a.weight"] + change})
    assert [row.rank for row in found.rows] == [2]


def test_conv1d_is_told_by_its_bias(make_model: MakeModel, tmp_path: Path) -> None:
    base = {"attn.weight": random((16, 48), 1), "attn.bias": random((48,), 2)}
    base |= {"proj.weight": random((16, 16), 3), "proj.bias": random((16,), 4)}
    model = {n: a + low(a.shape, 2, i) if a.ndim == 2 else a for i, (n, a) in enumerate(base.items())}
    _, out = extracted(make_model, base, model, rank=2)
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["fan_in_fan_out"] is True
    adapter = open_adapter(out)
    assert adapter.products["attn"].shape == (48, 16)
    back = applied(out, tmp_path / "base")
    for name, array in model.items():
        np.testing.assert_allclose(back[name], array, atol=1e-6)


def test_what_is_asked_for_whole_or_skipped(make_model: MakeModel, tmp_path: Path) -> None:
    base, model = start(), tuned(start())
    found, out = extracted(make_model, base, model, rank=3, whole=["down"], skip=["embed", "bias"])
    forms = {row.name: row.form for row in found.rows}
    assert forms["layers.0.down.weight"] == "whole"
    assert forms["embed_tokens.weight"] == forms["layers.0.up.bias"] == "lost"
    # PEFT saves modules: the norm's bias comes with its weight.
    assert forms["layers.0.norm.bias"] == "whole"
    back = applied(out, tmp_path / "base")
    assert np.array_equal(back["embed_tokens.weight"], base["embed_tokens.weight"])
    assert np.array_equal(back["layers.0.down.weight"], model["layers.0.down.weight"])
    assert json.loads((out / "adapter_config.json").read_text())["bias"] == "none"


def test_peft_matches_saved_modules_by_their_ends(make_model: MakeModel) -> None:
    """ "norm" would also replace "input_norm": what PEFT is going to look for has to be there."""
    base = {"norm.weight": random((8,), 1), "input_norm.weight": random((8,), 2), "q.weight": random((30, 8), 3)}
    base |= {"block.q.weight": random((30, 8), 4)}
    base |= {"gate_norm.weight": random((30, 8), 5)}
    moved = {name: base[name] + low((30, 8), 2, 1) for name in ("q.weight", "gate_norm.weight")}
    model = base | moved | {"norm.weight": random((8,), 9)}
    found, out = extracted(make_model, base, model, rank=2)
    assert json.loads((out / "adapter_config.json").read_text())["modules_to_save"] == [
        "gate_norm",
        "input_norm",
        "norm",
    ]
    assert open_adapter(out).products.keys() == {"q"}
    assert {row.name: row.form for row in found.rows} == {
        "norm.weight": "whole",
        "input_norm.weight": "whole",
        "gate_norm.weight": "whole",
        "q.weight": "low-rank",
    }


def test_bf16_models(make_model: MakeModel, tmp_path: Path) -> None:
    from tunemerge.checkpoint.dtypes import from_float32, to_float32

    base = {name: from_float32(array, "BF16") for name, array in start().items()}
    model = {name: from_float32(array, "BF16") for name, array in tuned(start()).items()}
    found, out = extracted(make_model, base, model, rank=10)
    back = applied(out, tmp_path / "base")
    for row in found.rows:
        if row.form == "low-rank":
            exact = to_float32(model[row.name], "BF16")
            change = exact - to_float32(base[row.name], "BF16")
            share = 1 - ((back[row.name] - exact) ** 2).sum() / (change**2).sum()
            assert row.energy < 1 and share == pytest.approx(row.energy, abs=1e-5)


def test_what_speaks_against_it_comes_first(make_model: MakeModel, tmp_path: Path) -> None:
    base, model = start(), tuned(start())
    few = {name: array for name, array in model.items() if name != "layers.0.norm.bias"}
    folders = [make_model("few", state=few, config={}), make_model("other", state=base, config={})]
    with pytest.raises(FindingsError) as caught:
        extract_adapter(folders[0], folders[1], tmp_path / "x", rank=0, energy=1.5, skip=["nothing_like_it"])
    for text in (
        "lacks 1 of the 12 tensors",
        "'layers.0.norm.bias'",
        "at least 1, not 0",
        "(0, 1], not 1.5",
        "nothing_l",
    ):
        assert text in str(caught.value), text
    with pytest.raises(UsageError, match="no matrix differs"):
        extract_adapter(folders[1], folders[1], tmp_path / "x")
    full = {name: array + random(array.shape, 99) for name, array in base.items()}
    with pytest.raises(UsageError, match="ask for less"):
        extract_adapter(make_model("full", state=full, config={}), folders[1], tmp_path / "x", energy=1.0)
    broken = dict(model)
    broken["layers.0.up.weight"] = broken["layers.0.up.weight"].copy()
    broken["layers.0.up.weight"][2, 3] = np.inf
    nan = make_model("nan", state=broken, config={})
    with pytest.raises(UsageError, match=r"nan/model.safetensors: layers.0.up.weight: NaN or Inf at element 35"):
        extract_adapter(nan, folders[1], tmp_path / "x")
    with pytest.raises(CheckpointError, match="no such file or folder"):
        extract_adapter("./nowhere", folders[1], tmp_path / "x")
    with pytest.raises(UsageError, match="one of the inputs"):
        extract_adapter(folders[0], folders[1], folders[1])
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("all my work")
    with pytest.raises(UsageError, match="was not made here"):
        extract_adapter(folders[0], folders[1], mine)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["few", "full", "mine", "nan", "other"]


def test_a_failed_write_leaves_what_was_there(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, out = extracted(make_model, start(), tuned(start()), rank=3)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    again = extract_adapter(tmp_path / "tuned", tmp_path / "base", tmp_path / "again", rank=3)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "again" / name).read_bytes() == before[name], "two runs give the same bytes"

    def full(fd: int, data: object, offset: int) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.pwrite", full)
        with pytest.raises(TunemergeError, match="No space left on device"):
            extract_adapter(tmp_path / "tuned", tmp_path / "base", out, rank=2)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter", "again", "base", "tuned"]
    extract_adapter(tmp_path / "tuned", tmp_path / "base", out, rank=2)
    assert json.loads((out / "adapter_config.json").read_text())["r"] == 2
    assert again.rows


def test_it_belongs_to_its_base(make_model: MakeModel, tmp_path: Path) -> None:
    base = start()
    _, out = extracted(make_model, base, tuned(base), rank=3)
    record = open_adapter(out).record
    assert record["operation"] == "extract-lora" and len(record["base"]["files"]["model.safetensors"]) == 64
    other = make_model("elsewhere", state=base, shard_bytes=2000, config={})
    assert len(open_checkpoint(other).files) > 1
    assert applied(out, other).keys() == base.keys()
    another = make_model("another", state={name: array + 1 for name, array in base.items()}, config={})
    with pytest.raises(FindingsError, match="whose weights are not those of"):
        applied(out, another)


def test_modules_of_other_names_than_the_tensors(tmp_path: Path) -> None:
    """transformers renames the tensors of a ViT while it loads; an adapter speaks of the modules."""
    import torch
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=8, patch_size=4
    )
    model = ViTModel(config)
    model.save_pretrained(tmp_path / "base")
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() == 2:
                p.add_(torch.randn(p.shape[0], 2) @ torch.randn(2, p.shape[1]))
    model.save_pretrained(tmp_path / "tuned")
    extract_adapter(tmp_path / "tuned", tmp_path / "base", tmp_path / "adapter", rank=2)
    adapter = open_adapter(tmp_path / "adapter")
    linears = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    assert adapter.products.keys() == linears
    base, wanted = open_checkpoint(tmp_path / "base"), open_checkpoint(tmp_path / "tuned")
    assert not linears & {name.removesuffix(".weight") for name in base.tensors if "query" in name}
    with open_model(base) as under, open_model(wanted) as expected:
        view = AdaptedModel(under, adapter, base.config)
        assert view.tensors.keys() == expected.tensors.keys()
        for name in view.tensors:
            np.testing.assert_allclose(values(view, name), values(expected, name), atol=1e-5, err_msg=name)
        with pytest.raises(FindingsError, match="lacks 12 of the 13 weights"):
            AdaptedModel(under, adapter)
