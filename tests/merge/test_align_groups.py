"""Which groups are derived from names and shapes, what is refused, and groups from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from tunemerge.checkpoint.header import TensorInfo
from tunemerge.findings import FindingsError
from tunemerge.merge.align.derive import derive_groups
from tunemerge.merge.align.groups import Axis
from tunemerge.merge.align.groups_file import load_groups

Tensors = dict[str, TensorInfo]


def tensors(**shapes: tuple[int, ...]) -> Tensors:
    return {name.replace("__", "."): TensorInfo("F32", shape, 0, 0) for name, shape in shapes.items()}


def of(module: nn.Module) -> Tensors:
    kinds = {"torch.float32": "F32", "torch.int64": "I64"}
    return {n: TensorInfo(kinds[str(t.dtype)], tuple(t.shape), 0, 0) for n, t in module.state_dict().items()}


def refused(tensors: Tensors, config: dict[str, Any] | None = None) -> str:
    with pytest.raises(FindingsError) as caught:
        derive_groups(tensors, config or {}, "net.safetensors")
    (finding,) = caught.value.findings
    assert finding.code == "align-no-groups" and finding.where == "net.safetensors"
    assert "groups: groups.yaml" in finding.remedy and "{tensor: fc1.weight, axis: 0}" in finding.remedy
    return finding.message


def test_a_chain_is_found_by_sizes_where_names_say_nothing() -> None:
    found = derive_groups(tensors(b__weight=(7, 3), c__weight=(5, 7), a__weight=(4, 5), b__bias=(7,)), {}, "")
    assert {g.name: g.axes for g in found.groups} == {
        "b": (Axis("b.weight", 0), Axis("b.bias", 0), Axis("c.weight", 1)),
        "c": (Axis("c.weight", 0), Axis("a.weight", 1)),
    }
    assert found.findings == ()


def test_a_flattened_image_gives_every_channel_a_block() -> None:
    found = derive_groups(tensors(conv__weight=(6, 3, 3, 3), fc__weight=(5, 6 * 49)), {}, "")
    assert found.groups[0].axes == (Axis("conv.weight", 0), Axis("fc.weight", 1, 0, 49))


def test_equal_widths_are_said_to_be_taken_for_a_plain_chain() -> None:
    found = derive_groups(of(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 3))), {}, "x")
    assert [(f.code, f.severity) for f in found.findings] == [("align-assumed", "warning")]
    assert "past '2'" in found.findings[0].message


def test_channels_without_a_shortcut_layer_move_only_within_blocks() -> None:
    """A skip that pads new channels with zeros has no weights to see."""
    block = {"conv1__weight": (6, 6, 3, 3), "conv2__weight": (6, 6, 3, 3)}
    wider = {"conv1__weight": (9, 6, 3, 3), "conv2__weight": (9, 9, 3, 3)}
    both = {f"l__{i}__{name}": shape for i, b in enumerate((block, wider)) for name, shape in b.items()}
    found = derive_groups(tensors(stem__weight=(6, 3, 3, 3), fc__weight=(4, 9), **both), {}, "")
    assert [g.name for g in found.groups] == ["l.0.conv1", "l.1.conv1"]
    assert "changes the number of channels" in found.findings[0].message


REFUSED = {
    "autoencoder, either way round": (tensors(encoder__weight=(3, 8), decoder__weight=(8, 3)), "more than one order"),
    "two branches": (tensors(a__weight=(8, 4), b__weight=(3, 8), c__weight=(2, 8)), "don't follow each other"),
    "one layer": (tensors(fc__weight=(3, 8)), "no layer has hidden units"),
    "recurrent": (of(nn.LSTM(4, 6)), "part of no layer"),
    "lookup table": (tensors(emb__weight=(9, 6), fc__weight=(6, 6)), "part of no layer"),
    "norm before the layer": (
        of(nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 8), nn.Linear(8, 3))),
        "which layer the norm '0' follows",
    ),
    "norm before or after": (
        tensors(conv1__weight=(6, 6, 3, 3), bn1__weight=(6,), conv2__weight=(6, 6, 3, 3), bn2__weight=(6,))
        | tensors(bn1__running_mean=(6,), bn2__running_mean=(6,)),
        "before or after",
    ),
    "norm over groups of channels": (
        of(nn.Sequential(nn.Conv2d(3, 6, 3), nn.GroupNorm(2, 6), nn.Conv2d(6, 4, 3))),
        "may join channels",
    ),
    "convolution in groups": (of(nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3, groups=2))), "don't follow"),
    "blocks that begin with a convolution in groups": (
        tensors(stem__weight=(6, 3, 3, 3), b__0__conv1__weight=(8, 3, 3, 3), b__0__conv2__weight=(6, 8, 3, 3)),
        "6 channels reach 'b.0.conv1', which reads 3",
    ),
    "transposed convolution": (tensors(conv__weight=(6, 3, 3, 3), deconv__weight=(6, 6, 3, 3)), "part of no layer"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_no_groups(case: str) -> None:
    given, reason = REFUSED[case]
    assert reason in refused(given)


LAYER = {
    "h__0__attn__q_proj__weight": (24, 24),
    "h__0__attn__k_proj__weight": (12, 24),
    "h__0__attn__v_proj__weight": (12, 24),
    "h__0__attn__o_proj__weight": (24, 24),
    "h__0__mlp__up_proj__weight": (40, 24),
    "h__0__mlp__down_proj__weight": (24, 40),
}
ROTARY = {"num_attention_heads": 4, "rope_theta": 1e4, "architectures": ["XForCausalLM"]}


def names(given: Tensors, config: dict[str, Any]) -> dict[str, tuple[bool, list[str]]]:
    return {g.name: (g.movable, [i.name for i in g.inside]) for g in derive_groups(given, config, "").groups}


def test_attention_follows_what_is_known_about_positions() -> None:
    given = tensors(**LAYER, wpe__weight=(9, 24))
    learned = {"num_attention_heads": 4}
    assert names(given, learned)["h.0.attn"] == (True, ["values", "keys", "queries"])
    assert names(given, ROTARY)["h.0.attn"] == (True, ["values", "queries"])
    assert names(given, {**learned, "alibi": True})["h.0.attn"] == (False, ["values", "keys", "queries"])
    assert names(tensors(**LAYER), learned)["h.0.attn"] == (False, ["values", "queries"])
    assert "h.0.attn" not in names(given, {})
    assert "h.0.attn" not in names(given, {**learned, "rotary_value": True})
    assert "h.0.attn" not in names(given | tensors(h__0__attn__sinks=(4,)), learned)
    assert "h.0.attn" not in names(given, {"num_attention_heads": 5})


def test_hidden_units_are_found_without_config() -> None:
    found = derive_groups(tensors(**LAYER), {}, "x")
    assert [g.name for g in found.groups] == ["h.0.mlp"]
    assert [f.code for f in found.findings] == ["align-left-out", "align-no-residual"]


def test_a_depthwise_convolution_within_the_hidden_units_is_not_overlooked() -> None:
    mixed = tensors(**LAYER, h__0__mlp__dwconv__weight=(40, 1, 3, 3))
    assert "h.0.mlp" not in names(mixed, ROTARY)


@pytest.mark.parametrize(
    ("extra", "config", "reason"),
    [
        ({}, {"architectures": ["XModel"]}, "the model's output"),
        ({"pos_conv__weight": (24, 2, 9)}, {}, "is not understood"),
        ({"merger__weight": (10, 96)}, {}, "joins several positions"),
        ({"h__0__router__weight": (24, 24)}, {}, "is not understood"),
        ({}, {"vocab_size": 24}, "as many outputs"),
        ({}, {"rope_theta": False}, "knows positions"),
    ],
)
def test_the_residual_stream_is_left_alone_where_anything_is_unclear(
    extra: dict[str, tuple[int, ...]], config: dict[str, Any], reason: str
) -> None:
    usual = {"embed_tokens__weight": (60, 24), "norm__weight": (24,), "lm_head__weight": (60, 24)}
    assert "residual" in names(tensors(**LAYER, **usual), ROTARY)
    found = derive_groups(tensors(**LAYER, **usual, **extra), {**ROTARY, **config}, "")
    assert "residual" not in [g.name for g in found.groups]
    assert reason in found.findings[-1].message


MLP = tensors(fc1__weight=(8, 3), fc1__bias=(8,), fc2__weight=(4, 16))


def write(folder: Path, text: str) -> Path:
    path = folder / "groups.yaml"
    path.write_text(text)
    return path


def test_groups_from_a_file(tmp_path: Path) -> None:
    text = """
    hidden:
      - {tensor: fc1.weight, axis: 0}
      - {tensor: fc2.weight, axis: 1, block: 2}
    half:
      - {tensor: fc2.weight, axis: 1, start: 8, units: 4, block: 2}
      - {tensor: fc1.bias, axis: 0, start: 4}
    """
    hidden, half = load_groups(write(tmp_path, text), MLP)
    assert (hidden.name, hidden.units, hidden.axes) == (
        "hidden",
        8,
        (Axis("fc1.weight", 0), Axis("fc2.weight", 1, 0, 2)),
    )
    assert (half.units, half.axes) == (4, (Axis("fc2.weight", 1, 8, 2), Axis("fc1.bias", 0, 4, 1)))


def test_a_group_for_every_layer(tmp_path: Path) -> None:
    text = """
    "heads.{}":
      - {tensor: "h.{}.attn.q_proj.weight", axis: 0, block: 6}
      - {tensor: "h.{}.attn.o_proj.weight", axis: 1, block: 6}
    """
    two = {name.replace("h.0.", f"h.{i}."): info for i in (0, 12) for name, info in tensors(**LAYER).items()}
    groups = load_groups(write(tmp_path, text), two)
    assert [(g.name, g.units, g.axes[1].tensor) for g in groups] == [
        ("heads.0", 4, "h.0.attn.o_proj.weight"),
        ("heads.12", 4, "h.12.attn.o_proj.weight"),
    ]


def test_everything_wrong_with_a_file_is_said_at_once(tmp_path: Path) -> None:
    text = """\
a:
  - {tensor: fc1.wieght, axis: 0}
  - {tensor: fc1.weight, axis: 2}
  - {tensor: fc1.weight, axis: 0}
  - {tensor: fc1.weight, axis: 0}
b:
  - {tensor: fc1.weight, axis: 0}
  - {tensor: fc2.weight, axis: 1}
c:
  - {tensor: fc2.weight, axis: 1, block: 3}
d:
  - {tensor: fc1.bias, axsi: 0, block: 0}
e: fc1.weight
f:
  - {tensor: fc2.weight, axis: 1, units: 9, block: 2}
"""
    path = write(tmp_path, text)
    with pytest.raises(FindingsError) as caught:
        load_groups(path, MLP)
    found = {(f.where.rpartition(":")[2], f.message) for f in caught.value.findings}
    assert all(f.where.startswith(f"{path}:") for f in caught.value.findings)
    for line, part in [
        ("2", "did you mean 'fc1.weight'"),
        ("3", "of shape [8, 3] has no axis 2"),
        ("5", "twice"),
        ("8", "has 16 units of 1, but axis 0 of 'fc1.weight' has 8 units"),
        ("10", "16 elements are no whole number of units of 3"),
        ("12", "unknown key 'axsi'; did you mean 'axis'?"),
        ("12", "axis is missing"),
        ("12", "block must be a whole number of at least 1, not 0"),
        ("13", "must be a list"),
        ("15", "has 16 elements; 9 units of 2 from element 0 on need 18"),
    ]:
        assert any(line == where and part in message for where, message in found), (line, part, found)
    assert len(found) == 10


def test_a_file_that_is_no_mapping(tmp_path: Path) -> None:
    with pytest.raises(FindingsError, match="a mapping of group names"):
        load_groups(write(tmp_path, "- 1"), MLP)
    with pytest.raises(FindingsError, match="given twice"):
        load_groups(write(tmp_path, "a: 1\na: 2"), MLP)
