from __future__ import annotations

import subprocess
import sys

import pytest

from tunemerge.errors import TunemergeError
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
    monkeypatch.setattr(precision, "_built_for_cuda", lambda: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert precision.device() == "cuda"
    assert precision.environment()["device"] == "cuda NVIDIA H100"
    for hidden in ("", "-1"):
        precision.device.cache_clear()
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert precision.device() == "cpu"
    precision.device.cache_clear()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(precision, "_built_for_cuda", lambda: False)
    assert precision.device() == "cpu"


def test_the_build_is_read_without_importing_torch() -> None:
    import torch

    assert precision._built_for_cuda() == (torch.version.cuda is not None)


def test_a_gpu_that_torch_cannot_use_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(precision, "device", lambda: "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TunemergeError, match='CUDA_VISIBLE_DEVICES=""'):
        precision.torch_device()


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
