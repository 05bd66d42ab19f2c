"""WUDI-Merging (Cheng et al. 2025): the task vector that interferes least with each of the given ones.

The rows of a linear layer's task vector t_i lie near the span of the task's inputs, so (t - t_i) t_i^T is what a merged
task vector t does wrong on them. For each matrix this minimises
    sum over i of |(t - t_i) t_i^T|^2 / |t_i|^2
by Adam from the sum of the t_i, `iterations` steps of size `step`, all gradients exact: no randomness. The paper takes
300 steps of 1e-5, which do not go to the end: the minimiser itself, a pseudo-inverse away, does worse, because small
eigenvalues of the t_i^T t_i are noise. A step is as large as it is whatever the scale of the task vectors; deltas much
larger than 1e-3 need a larger one.

Only linear layers have such inputs: embedding tables, told by their names, and tensors that are no matrices get the
mean of the task vectors (the authors' code leaves them at the base or averages them). A t_i of zeros has no say.
Time: `iterations` products of the matrix with a square one of its columns. Float32 would take half of it, and came out
2e-4 of the largest delta away after 300 steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tunemerge.checkpoint.naming import is_table
from tunemerge.merge.grids import pairs
from tunemerge.merge.method import Method, Tensor, register
from tunemerge.merge.parameters import LAMBDA, Parameter, Values
from tunemerge.merge.spectral import Deltas, SpectralStream

if TYPE_CHECKING:
    import torch

_MEAN, _SQUARE, _FLOOR = 0.9, 0.999, 1e-8
"""Adam's decay rates and what it adds to the root, as everywhere."""


def reference(tensors: Sequence[torch.Tensor], base: torch.Tensor | None, values: Values) -> torch.Tensor:
    """The loss as the paper has it, through autograd and torch's own Adam."""
    import torch

    assert base is not None
    start = base.double()
    deltas = torch.stack([x.double() - start for x in tensors])
    if base.ndim != 2 or not base.numel() or is_table(values["name"]):
        return start + values["lambda"] * deltas.mean(dim=0)
    merged = torch.nn.Parameter(deltas.sum(dim=0))
    moved = deltas[deltas.flatten(1).any(dim=1)]
    lengths = moved.square().sum(dim=(1, 2))
    optimizer = torch.optim.Adam([merged], lr=values["step"])
    for _ in range(values["iterations"] if len(moved) else 0):
        optimizer.zero_grad()
        interference = (merged - moved) @ moved.mT
        (interference.square().sum(dim=(1, 2)) / lengths).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return start + values["lambda"] * merged.detach()


def merge(deltas: Deltas, values: Values) -> torch.Tensor:
    merged = deltas.total()
    slope_at = _slope(deltas, merged)
    mean, square = merged.new_zeros(merged.shape), merged.new_zeros(merged.shape)
    for turn in range(1, values["iterations"] + 1):
        slope = slope_at(merged)
        mean.lerp_(slope, 1 - _MEAN)
        square.mul_(_SQUARE).addcmul_(slope, slope, value=1 - _SQUARE)
        root = (square / (1 - _SQUARE**turn)).sqrt_().add_(_FLOOR)
        merged.addcdiv_(mean, root, value=-values["step"] / (1 - _MEAN**turn))
    return merged


def _slope(deltas: Deltas, like: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """The gradient of the objective at t: the sum of (t - t_i) C_i, where C_i = 2 t_i^T t_i / |t_i|^2.

    The sums of the C_i and of the t_i C_i are formed once. Where they would be much larger than a task vector (far
    more columns than rows) the products are taken from the left instead.
    """
    import torch

    rows, columns = deltas.shape
    chain = torch.linalg.multi_dot  # in the cheaper order

    def from_the_left(t: torch.Tensor) -> torch.Tensor:
        out = like.new_zeros(like.shape)
        for delta in deltas:
            length = float(delta.square().sum())
            if length > 0:
                out.add_(chain([t - delta, delta.T, delta]), alpha=2 / length)
        return out

    if columns > 4 * rows:
        return from_the_left
    pull, target = like.new_zeros(columns, columns), like.new_zeros(like.shape)
    for delta in deltas:
        length = float(delta.square().sum())
        if length > 0:
            pull.addmm_(delta.T, delta, alpha=2 / length)
            target.add_(chain([delta, delta.T, delta]), alpha=2 / length)
    return lambda t: (t @ pull).sub_(target)


def stream(tensor: Tensor) -> SpectralStream:
    return SpectralStream(tensor, merge, matrix=not is_table(tensor.name))


def candidates(n_models: int, k: int) -> list[dict[str, Any]]:
    """Scale and steps; the paper's first."""
    scales, steps = [1.0, 0.7, 1.3, 0.5], [300, 100, 1000]
    return [{"lambda": scale, "iterations": count} for scale, count in pairs(scales, steps, k)]


WUDI = register(
    Method(
        name="wudi",
        paper="2503.08099",
        summary="the task vector that interferes least with all given ones, layer by layer",
        parameters=(
            Parameter("iterations", "integer", 300, "steps of Adam; 0 is the sum of task vectors", low=0, high=100_000),
            Parameter("step", "number", 1e-5, "how far a step moves an element", low=0.0, high=1.0),
            LAMBDA,
        ),
        base="needed",
        reference=reference,
        stream=stream,
        torch=True,
        version=2,
        candidates=candidates,
        idempotent=False,
    )
)
