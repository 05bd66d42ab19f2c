"""SAM, sharpness-aware minimisation (Foret et al. 2021, 2010.01412): the gradient at the worst weights nearby."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


def again_uphill(net: Any, rho: float, batches: Sequence[Any], backward: Callable[[Any], Any]) -> None:
    """Replace the gradient of an optimizer step by that at w + rho * g / |g|, g being what is there now.

    `backward` adds the gradient of one micro-batch; `batches` are those of the whole step, so that how it is cut
    changes nothing. The weights come back bit for bit.
    """
    trained = [p for p in net.parameters() if p.grad is not None]
    with _uphill(trained, rho):
        for parameter in trained:
            parameter.grad = None
        for batch in batches:
            backward(batch)


@contextmanager
def _uphill(trained: Sequence[Any], rho: float) -> Iterator[None]:
    import torch

    own = [p.detach().clone() for p in trained]
    with torch.no_grad():
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(p.grad) for p in trained]))
        for parameter in trained:
            parameter.add_(parameter.grad, alpha=float(rho / (norm + 1e-12)))
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, before in zip(trained, own, strict=True):
                parameter.copy_(before)
