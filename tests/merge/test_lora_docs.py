"""docs/lora.md: every example runs as it stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from lora_files import dense, linear, random, values, write_lora
from tunemerge.checkpoint.adapter import open_adapter
from tunemerge.checkpoint.model import open_checkpoint
from tunemerge.checkpoint.source import open_model
from tunemerge.cli.app import app
from tunemerge.merge.lora.files import merge_adapters
from tunemerge.merge.lora.mix import Mix

TEXT = (Path(__file__).parents[2] / "docs" / "lora.md").read_text("utf-8")
NAMES = ("layers.0.q", "layers.1.q")


def test_the_examples_run(tmp_path: Path, make_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    base = {f"{name}.weight": random((40, 30), i) for i, name in enumerate(NAMES)} | {"norm.weight": random((30,), 9)}
    moved = {f"{name}.weight": dense(linear(40, 30, seed=i), 0.1) for i, name in enumerate(NAMES)}
    make_model("base", state=base, config={})
    make_model(
        "tuned", state=base | {name: (base[name] + d).astype(np.float32) for name, d in moved.items()}, config={}
    )
    factors = {
        letter: {n: linear(40, 30, seed=7 * j + i) for i, n in enumerate(NAMES)} for j, letter in enumerate("ab")
    }
    for letter, modules in factors.items():
        write_lora(tmp_path / f"lora-{letter}", modules, base_model_name_or_path="base")
    for recipe in re.findall(r"```yaml\n# (\S+)\n(.*?)```", TEXT, re.DOTALL):
        (tmp_path / recipe[0]).write_text(recipe[1])
    commands = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
    assert len(commands) == 6
    for command in commands:
        program, *arguments = shlex.split(command)
        run = CliRunner().invoke(app, arguments)
        assert program == "tunemerge" and run.exit_code == 0, (command, run.output, run.exception)
    (python,) = re.findall(r"files\.(merge_adapters\(.*?\))`", TEXT, re.DOTALL)
    before = (tmp_path / "sum" / "adapter_model.safetensors").read_bytes()
    eval(python, {"merge_adapters": merge_adapters, "Mix": Mix})
    assert (tmp_path / "sum" / "adapter_model.safetensors").read_bytes() == before

    assert {p.rank for p in open_adapter(tmp_path / "lora").products.values()} == {4}
    assert {p.rank for p in open_adapter(tmp_path / "small").products.values()} == {8}
    with open_model(open_checkpoint(tmp_path / "merged")) as model:
        assert model.tensors.keys() == base.keys()
        assert np.array_equal(values(model, "norm.weight"), base["norm.weight"])
        for name in NAMES:
            # TIES as the recipe has it: the larger half of each change, weighted, where the elected sign agrees.
            kept = []
            for letter in "ab":
                change = (base[f"{name}.weight"] + dense(factors[letter][name], 2)).astype(np.float32)
                change = change - base[f"{name}.weight"]
                kept.append(np.where(np.abs(change) >= np.sort(np.abs(change), axis=None)[change.size // 2], change, 0))
            sign = np.where(0.5 * kept[0] + 0.5 * kept[1] >= 0, 1, -1)
            agree = [(np.sign(k) == sign) for k in kept]
            total = np.sum([0.5 * k * a for k, a in zip(kept, agree, strict=True)], axis=0)
            divisor = np.sum([0.5 * a for a in agree], axis=0)
            exact = base[f"{name}.weight"] + total / np.where(divisor == 0, 1, divisor)
            np.testing.assert_allclose(values(model, f"{name}.weight"), exact, atol=2e-6)
