"""Do the models hold the same tensors, heads apart?"""

from __future__ import annotations

from collections.abc import Mapping

from tunemerge.checkpoint.dtypes import FLOATS, INTEGERS
from tunemerge.checkpoint.header import TensorInfo
from tunemerge.checkpoint.match import common_prefix, tensor_differences
from tunemerge.checkpoint.model import Checkpoint
from tunemerge.checkpoint.naming import is_task_head
from tunemerge.findings import Finding, error, note

Tensors = dict[str, TensorInfo]


def tensor_findings(models: Mapping[str, Checkpoint]) -> list[Finding]:
    """Errors for encoders that differ in names or shapes; notes for heads and number formats."""
    plain = {name: _without_prefix(model.tensors, models) for name, model in models.items()}
    bodies = {name: {n: t for n, t in tensors.items() if not is_task_head(n)} for name, tensors in plain.items()}
    findings = tensor_differences(bodies)
    findings += _head_notes({name: {n for n in tensors if is_task_head(n)} for name, tensors in plain.items()})
    for name, model in models.items():
        odd = sorted({t.dtype for t in model.tensors.values() if t.dtype.startswith(("F8", "C"))})
        if odd:
            text = f"has weights in {' and '.join(odd)}, which can't be merged"
            findings.append(error("tensor-dtype", text, name, "save it in float32, float16 or bfloat16"))
    return findings + _dtype_note(bodies)


def _without_prefix(tensors: Tensors, models: Mapping[str, Checkpoint]) -> Tensors:
    """Names without the encoder's prefix ("bert."), where another of the models was saved without it."""
    for other in models.values():
        body = {n for n, info in other.tensors.items() if not is_task_head(n) and info.dtype not in INTEGERS}
        prefix = common_prefix(set(tensors), body)
        if prefix:
            return {name.removeprefix(prefix): info for name, info in tensors.items()}
    return dict(tensors)


def _head_notes(heads: Mapping[str, set[str]]) -> list[Finding]:
    everywhere = set.intersection(*heads.values())
    findings = []
    for name, own in heads.items():
        extra = sorted(own - everywhere)
        if extra:
            shown = ", ".join(extra[:3]) + (f" and {len(extra) - 3} more" if len(extra) > 3 else "")
            findings.append(note("head-only-here", f"has head tensors that not all models have: {shown}", name))
    return findings


def _dtype_note(bodies: Mapping[str, Tensors]) -> list[Finding]:
    used = {name: sorted({t.dtype for t in tensors.values() if t.dtype in FLOATS}) for name, tensors in bodies.items()}
    if len({tuple(dtypes) for dtypes in used.values()}) <= 1:
        return []
    text = "; ".join(f"{name} {'/'.join(dtypes)}" for name, dtypes in used.items())
    return [
        note("dtypes-differ", f"weights are stored in different formats ({text}); merges are rounded once, at the end")
    ]
