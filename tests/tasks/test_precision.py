from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import pytest

from tunemerge.tasks import precision


@pytest.fixture(autouse=True)
def fresh() -> None:
    precision.device.cache_clear()


def test_environment_needs_no_torch() -> None:
    code = (
        "import sys, tunemerge.tune.operation, tunemerge.tune.init, tunemerge.evaluate.operation, "
        "tunemerge.search.operation; from tunemerge.tasks.precision import environment; "
        "print(sorted(environment())); print([m for m in ('torch', 'transformers', 'numba') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert out == ["['device', 'precision', 'threads', 'torch', 'transformers']", "[]"]


def test_a_hidden_gpu_or_a_cpu_build_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_gpus", lambda: ["NVIDIA H100"])
    monkeypatch.setattr(metadata, "version", lambda name: "2.13.0+cu130")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert precision.device() == "cuda"
    assert precision.environment()["device"] == "cuda NVIDIA H100"
    for hidden in ("", "-1"):
        precision.device.cache_clear()
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert precision.device() == "cpu"
    precision.device.cache_clear()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(metadata, "version", lambda name: "2.13.0+cpu")
    assert precision.device() == "cpu"


def test_float32_on_request_and_without_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(precision, "_cpu_has_bf16", lambda: True)
    assert precision.uses_bf16("auto", "cpu") and not precision.uses_bf16("float32", "cpu")
    layer, x = torch.nn.Linear(4, 4), torch.ones(2, 4)
    with precision.autocast("auto", "cpu"):
        assert layer(x).dtype == torch.bfloat16
    with precision.autocast("float32", "cpu"):
        assert layer(x).dtype == torch.float32
    monkeypatch.setattr(precision, "_cpu_has_bf16", lambda: False)
    assert not precision.uses_bf16("auto", "cpu")
