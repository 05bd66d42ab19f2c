"""Where and in what precision torch computes: known without importing torch, so that planning stays fast."""

from __future__ import annotations

import importlib.util
import os
import re
from contextlib import AbstractContextManager
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from tunemerge.errors import TunemergeError


@lru_cache(maxsize=1)
def device() -> str:
    """'cuda' where torch is built for it and a driver shows a GPU that this process may see, else 'cpu'."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1")
    return "cuda" if _built_for_cuda() and not hidden and _gpus() else "cpu"


def _built_for_cuda() -> bool:
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    version = Path(spec.origin).with_name("version.py").read_text()
    return re.search(r"^cuda\b[^=]*= *['\"]", version, re.MULTILINE) is not None


def torch_device() -> str:
    """`device()`, checked against torch: what the key of a step says must be what computes it."""
    import torch

    kind = device()
    if kind == "cuda" and not torch.cuda.is_available():
        raise TunemergeError(
            "a GPU and its driver are there, but torch cannot use them; update the driver or torch, "
            'or compute on the CPU with CUDA_VISIBLE_DEVICES="" in the environment'
        )
    return kind


def _gpus() -> list[str]:
    """Names of the NVIDIA GPUs of this machine, from the driver's files; nameless where only a device file is there."""
    names = []
    for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        lines = file.read_text().splitlines()
        names += [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
    if not names and any(Path(file).exists() for file in ("/dev/nvidia0", "/dev/dxg")):
        return ["GPU"]
    return names


@lru_cache(maxsize=1)
def _cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware; emulated it is slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def uses_bf16(precision: str, kind: str) -> bool:
    """Whether `autocast` computes in bfloat16 on this kind of device."""
    if precision == "float32":
        return False
    if kind == "cpu":
        return _cpu_has_bf16()
    import torch

    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def autocast(precision: str, kind: str) -> AbstractContextManager[Any]:
    """bfloat16 autocast where the hardware has it and `precision` is 'auto'; otherwise nothing changes."""
    import torch

    return torch.autocast(kind, dtype=torch.bfloat16, enabled=uses_bf16(precision, kind))


def environment() -> dict[str, str]:
    """What changes the numbers of a step that runs torch: part of the step's key."""
    kind = device()
    return {
        "torch": _version("torch"),
        "transformers": _version("transformers"),
        "device": kind if kind == "cpu" else f"cuda {_gpus()[0]}",
        "precision": "bf16-autocast" if kind == "cuda" or _cpu_has_bf16() else "float32",
        "threads": "1",
    }


@cache
def _version(package: str) -> str:
    """Of an installed package; read once, for a plan asks for every step."""
    return metadata.version(package)


def packages(*names: str) -> dict[str, str]:
    """The versions of packages that change the numbers of a step: part of its key."""
    return {name: _version(name) for name in names}
