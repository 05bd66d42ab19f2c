"""What a merge method is: its parameters, a reference that reads like the paper, and its streaming form.

A method is one file in `tunemerge.merge.methods` that builds a Method and calls `register`. The reference works
on whole torch tensors and is written independently of the kernels; the contract suite in
`tunemerge.testing.methods` holds the two against each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from numpy.typing import NDArray

from tunemerge.findings import error, refuse_errors
from tunemerge.merge.parameters import Parameter, Values, check, fill
from tunemerge.registry import Registry

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Tensor:
    """One tensor that is about to be merged. `values` are resolved parameters for this very tensor.

    `seed` and `name` key the random numbers of methods that draw any; `device` is where torch computes, for
    methods that need whole matrices.
    """

    name: str
    shape: tuple[int, ...]
    n_models: int
    values: Values
    seed: int = 0
    device: str = "auto"

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def columns(self) -> int:
        """Length of a row: the last dimension. A vector is one row."""
        return self.shape[-1] if self.shape else 1

    @property
    def rows(self) -> int:
        return self.size // self.columns if self.columns else 0


@dataclass(frozen=True)
class Block:
    """A stretch of one tensor. Blocks come in order of position.

    `rows` is (models, length), `base` (length,) or None, `out` (length,) takes the result: all float32, all
    float64 where an input is. Where all inputs are bfloat16 and the stream `takes_bf16`, `rows` and `base` are their
    16 bits as uint16. `start` is the position of the first element in the flattened tensor.
    """

    rows: NDArray[Any]
    base: NDArray[Any] | None
    start: int
    out: NDArray[Any]

    @property
    def deltas_from(self) -> NDArray[Any]:
        """The base of a method that needs one."""
        assert self.base is not None
        return self.base


Unit = Literal["element", "row", "tensor"]
SAMPLE = 1 << 17
"""Elements of the sample that a stream may ask for."""


class Stream(Protocol):
    """The streaming form on one tensor: `passes` times all blocks through `scan`, then once through `apply`.

    Blocks begin at multiples of LANES where `unit` is "element", hold whole rows where it is "row", and are the
    whole tensor where it is "tensor". `passes` may change in `finish`.
    """

    unit: Unit

    @property
    def passes(self) -> int: ...

    def scan(self, index: int, block: Block) -> None:
        """Take what pass `index` needs from a block."""

    def finish(self, index: int) -> None:
        """Pass `index` has seen every block."""

    def apply(self, block: Block) -> None:
        """Fill block.out."""


def takes_bf16(stream: Stream) -> bool:
    """Whether blocks may hold bfloat16 as it is stored: a stream says so that has kernels for it. It saves a copy."""
    return getattr(stream, "takes_bf16", False)


@runtime_checkable
class Looking(Protocol):
    """A stream of unit "element" that may save passes when it has seen a sample first, where it `looks`.

    The sample depends on the tensor's size alone; it comes in any number of blocks. A stream does its work without
    one too, with the same result.
    """

    looks: bool

    def look(self, block: Block) -> None:
        """Take part of the sample; block.out means nothing."""


class Single:
    """Base of streams that need no statistics of the tensor: only `apply`."""

    passes = 0
    unit: Unit = "element"

    def scan(self, index: int, block: Block) -> None:
        raise NotImplementedError

    def finish(self, index: int) -> None:
        raise NotImplementedError


Reference = Callable[["Sequence[torch.Tensor]", "torch.Tensor | None", Values], "torch.Tensor"]


@dataclass(frozen=True, kw_only=True)
class Method:
    """`reference(tensors, base, values)` returns float64; values also hold "seed" and "name" of the tensor. Without a
    `stream` the reference itself is what runs, on whole tensors.

    `base`: "no" where there is none, "optional", "needed", or "first" where the base is itself the first of the
    models (the side of a slerp where t is 0). `candidates(n_models, k)` gives the k settings that a search on
    validation tries, the usual default first; fewer where there are no more, or where more would favour some models
    by their place in the list. `symmetric`: the same bits in whatever order the models, each with its own
    parameters, are given. `idempotent`: copies of one model merge into that model, where nothing is scaled or left
    out. `refuses_values` says why resolved parameters that are fine one by one are not so together, or None.
    `version` is raised by hand whenever the result for the same inputs changes: steps that used it are then run
    again. `torch`: torch computes it, so its version and the device may change last bits.
    """

    name: str
    paper: str
    summary: str
    parameters: tuple[Parameter, ...]
    base: Literal["no", "optional", "needed", "first"]
    reference: Reference
    stream: Callable[[Tensor], Stream] = None  # type: ignore[assignment]  # never None once it is made
    candidates: Callable[[int, int], list[dict[str, Any]]] = lambda n_models, k: [{}]
    min_models: int = 1
    max_models: int | None = None
    random: bool = False
    symmetric: bool = False
    idempotent: bool = True
    version: int = 1
    torch: bool = False
    refuses_values: Callable[[Values], str | None] = lambda values: None

    def __post_init__(self) -> None:
        if self.stream is None:
            object.__setattr__(self, "stream", partial(_whole, self.reference))
            object.__setattr__(self, "torch", True)

    @property
    def needs_base(self) -> bool:
        return self.base == "needed"

    @property
    def takes_base(self) -> bool:
        """Whether a base that is given is used as one."""
        return self.base in ("needed", "optional")

    def refuses(self, n_models: int, has_base: bool) -> str | None:
        """Why this many models can't be merged by this method, or None. Known before anything runs."""
        low, high = self.min_models, self.max_models
        if n_models < low or (high is not None and n_models > high):
            some = _models(low, "exactly") if low == high else _models(low, "at least")
            return f"{self.name} merges {some}, got {n_models}"
        if self.needs_base and not has_base:
            return f"{self.name} merges differences from a base model, and none is given"
        return None

    def resolve(self, given: Values, n_models: int) -> dict[str, Any]:
        """All parameters, defaults filled in, per-model ones as lists. FindingsError with all that is wrong."""
        refuse_errors(check(self.parameters, given, n_models, self.name))
        values = fill(self.parameters, given, n_models)
        problem = self.refuses_values(values)
        refuse_errors([error("parameter-value", problem, self.name)] if problem else [])
        return values

    def grid(self, n_models: int, k: int) -> list[dict[str, Any]]:
        """At most k settings for a search on validation, always the same ones: `candidates`."""
        if k < 1:
            raise ValueError(f"a search needs at least one candidate, not {k}")
        return self.candidates(n_models, k)


METHODS: Registry[Method] = Registry("merge method", "tunemerge.merge.methods", "tunemerge.methods")


def register(method: Method) -> Method:
    """Add a method under its name; for use in the method's own file."""
    return METHODS.add(method.name, method)


def _whole(reference: Reference, tensor: Tensor) -> Stream:
    from tunemerge.merge.whole import WholeTensor

    return WholeTensor(reference, tensor)


def _models(count: int, how: str) -> str:
    words = {1: "one model", 2: "two models", 3: "three models"}
    return f"{how} {words.get(count, f'{count} models')}"
