"""Floating-point operations of passes through a transformer, measured on real batches and extrapolated exactly.

A transformer's operations on a batch of B sequences padded to L tokens are B (a + b L + c L^2) + d: a head that sees
one vector a sequence, matrices applied to every token, attention between tokens, and what is done once a batch
(DeBERTa's relative positions; 0 for most). Four counted shapes give a, b, c and d; rows of one size need only a and
d. Counted is with eager attention: torch's counter reads zero for the fused CPU kernel.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from tunemerge.tasks.batching import Inputs
from tunemerge.tasks.meter import Shape
from tunemerge.tasks.task import Loaded, kind_of

Coefficients = tuple[Fraction, Fraction, Fraction, Fraction]

_SHAPES: tuple[Shape, ...] = ((1, 4), (2, 4), (2, 8), (2, 12))
_measured: dict[tuple[str, str, bool], Coefficients] = {}


def flops(shapes: Mapping[Shape, int], coefficients: Coefficients) -> float:
    """Operations of all passes: `shapes` maps (batch, padded length) to how many such passes ran."""
    a, b, c, d = coefficients
    return float(sum(n * (batch * (a + b * length + c * length**2) + d) for (batch, length), n in shapes.items()))


def measure(model: Loaded, encoded: Inputs, trainable: str, training: bool) -> Coefficients:
    """(a, b, c, d) of `model` for a forward pass, or a forward and a backward pass (`training`).

    Measured once per process, architecture and `trainable` (a name for the set of parameters that get gradients).
    Leaves parameters, gradients (none), random state, mode and attention implementation as they were.
    """
    # What goes beside the rows costs too: captions that they are scored over.
    shapes = {name: array.shape for name, array in encoded.batch([0], _SHAPES[0][1]).items()}
    learns = sum(p.requires_grad for p in model.net.parameters()) if training else 0
    key = (f"{model.spec.kind} {shapes} {learns} {_network(model.net)}", trainable if training else "", training)
    if key not in _measured:
        _measured[key] = _solve([count(model, encoded, batch, length, training) for batch, length in _SHAPES])
    return _measured[key]


def _network(net: Any) -> str:
    """What tells networks apart whose passes cost differently; an adapter inside is not in the config."""
    if not hasattr(getattr(net, "config", None), "to_dict"):
        return f"{net!r} {[list(p.shape) for p in net.parameters()]}"
    adapters = {name: list(p.shape) for name, p in net.named_parameters() if ".lora_" in name}
    config = {k: v for k, v in net.config.to_dict().items() if k not in ("_name_or_path", "transformers_version")}
    return json.dumps([config, adapters] if adapters else config, sort_keys=True, default=str)


def count(model: Loaded, encoded: Inputs, batch: int, length: int, training: bool) -> int:
    """Operations of one pass (forward, and backward if `training`) over real rows cut or padded to `length` tokens."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    net = model.net
    rows = [row % len(encoded) for row in range(batch)]
    place = next(net.parameters()).device
    inputs = {name: torch.from_numpy(a).to(place) for name, a in encoded.batch(rows, length).items()}
    was_training = net.training
    attention = net.config._attn_implementation if hasattr(net, "set_attn_implementation") else None
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _Whole()  # type: ignore[assignment]
    if attention is not None:
        net.set_attn_implementation("eager")
    try:
        with torch.random.fork_rng(), torch.set_grad_enabled(training), counter:
            net.train(training)
            for layer in net.modules():  # the same operations, and no statistics change
                if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
                    layer.eval()
            outputs = kind_of(model.spec).forward(model, inputs)
            if training:
                outputs.sum().backward()
    finally:
        if attention is not None:
            net.set_attn_implementation(attention)
        net.train(was_training)
        if training:
            net.zero_grad(set_to_none=True)
    return counter.get_total_flops()


def forward_flops(net: Any, *inputs: Any) -> float:
    """Operations of one forward pass with these tensors, which may be on the device "meta"."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _Whole()  # type: ignore[assignment]
    if hasattr(net, "set_attn_implementation"):
        net.set_attn_implementation("eager")
    with torch.no_grad(), counter:
        net.eval()(*inputs)
    return float(counter.get_total_flops())


class _Whole:
    """Counts the model as one: following every module takes longer, and fails on some (DeBERTa's) backward passes."""

    parents = ("Global",)

    def __enter__(self) -> None: ...

    def __exit__(self, *fault: object) -> None: ...


def _solve(counts: list[int]) -> Coefficients:
    """From the counts of _SHAPES: d from the two batches of length 4, then the parabola through the three lengths."""
    single, *pairs = (Fraction(count) for count in counts)
    d = 2 * single - pairs[0]
    y0, y1, y2 = ((count - d) / 2 for count in pairs)
    start, step = _SHAPES[1][1], _SHAPES[2][1] - _SHAPES[1][1]
    c = (y2 - 2 * y1 + y0) / (2 * step**2)
    b = (y1 - y0) / step - c * (2 * start + step)
    return y0 - b * start - c * start**2, b, c, d
