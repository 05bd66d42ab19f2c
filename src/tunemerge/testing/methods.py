"""The contract that every merge method keeps. For the project's own methods and for plug-ins:

    @pytest.mark.parametrize("method", [m for _, m in METHODS])
    @pytest.mark.parametrize("contract", CONTRACTS)
    def test_contract(method, contract):
        contract(method)

Every contract is a function of a Method that raises AssertionError where the method breaks it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations, product
from typing import Any

import numpy as np

from tunemerge.checkpoint.dtypes import NUMPY, Array, from_float32, to_float32
from tunemerge.checkpoint.source import ArraySource
from tunemerge.findings import FindingsError
from tunemerge.merge.blocks import stream_tensor
from tunemerge.merge.method import Method, Tensor

SHAPES: tuple[tuple[int, ...], ...] = ((0,), (0, 3), (1,), (7,), (), (33, 17), (5, 3, 4), (1500,))
DTYPES = ("F32", "BF16", "F16", "F64")
NAME = "layer.0.weight"
SHARES = {"density", "select_topk"}
"""Parameters that say which share of a task vector is kept."""
KEEP_ALL = {**dict.fromkeys(SHARES, 1.0), "epsilon": 0.0}
"""Values at which a method of deltas leaves nothing out."""


def sample(shape: tuple[int, ...], dtype: str, seed: int, ties: bool = False) -> Array:
    """Weights as a model has them; with `ties` from a handful of values, so that magnitudes repeat."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-3, 4, shape) / 8 if ties else rng.normal(0, 0.05, shape)
    return from_float32(np.asarray(values, np.float32), dtype).reshape(shape)


def models_of(method: Method) -> int:
    """A number of models that the method takes: three where it may."""
    return min(max(3, method.min_models), method.max_models or 3)


def experts(method: Method, shape: tuple[int, ...], dtype: str, ties: bool = False) -> tuple[list[Array], Array]:
    """Models near a base, and the base."""
    base = sample(shape, dtype, 0, ties)
    out = []
    for i in range(models_of(method)):
        moved = to_float32(base, dtype) + 0.2 * to_float32(sample(shape, dtype, i + 1, ties), dtype)
        out.append(from_float32(moved, dtype).reshape(shape))
    return out, base


def by_kernel(
    method: Method,
    models: list[Array],
    base: Array | None,
    dtype: str,
    given: dict[str, Any],
    *,
    seed: int = 0,
    block: int = 512,
    out_dtype: str | None = None,
) -> Array:
    """The streaming form on whole arrays, in blocks."""
    values = method.resolve(given, len(models))
    shape, size = models[0].shape, models[0].size
    out = np.zeros(size, NUMPY[out_dtype or dtype])

    def sink(start: int, part: Array) -> None:
        out[start : start + part.size] = part

    sources = [ArraySource(m.reshape(-1), dtype, f"model {i}") for i, m in enumerate(models)]
    below = ArraySource(base.reshape(-1), dtype, "base") if base is not None and method.takes_base else None
    stream = method.stream(Tensor(NAME, shape, len(models), values, seed))
    stream_tensor(stream, sources, below, shape, out_dtype or dtype, sink, block)
    return out.reshape(shape)


def by_reference(
    method: Method, models: list[Array], base: Array | None, dtype: str, given: dict[str, Any], seed: int = 0
) -> Array:
    """The reference's float64 result; of a tensor without elements that tensor, for which no reference is asked."""
    if not models[0].size:
        return _wide(models[0], dtype)
    import torch

    from tunemerge.merge.spectral import one_thread

    wide = [torch.from_numpy(_wide(m, dtype)) for m in models]
    below = torch.from_numpy(_wide(base, dtype)) if base is not None else None
    values = {**method.resolve(given, len(models)), "seed": seed, "name": NAME}
    with one_thread():
        return np.asarray(method.reference(wide, below, values).numpy())


def agrees_with_reference(method: Method) -> None:
    """Kernel and reference agree to rounding: all shapes, dtypes, several settings, also with tied magnitudes."""
    for given, dtype, shape, ties in product(settings(method), DTYPES, SHAPES, (False, True)):
        models, some = experts(method, shape, dtype, ties)
        for base in bases(method, some):
            truth = by_reference(method, models, base, dtype, given)
            found = by_kernel(method, models, base, dtype, given)
            label = f"{method.name} {given} {dtype} {shape} ties={ties} base={base is not None}"
            assert found.shape == shape, label
            if dtype in ("F32", "F64"):
                allowed = reach(method, models, base, given)
                if in_one_piece(method, shape, given):
                    # Every element depends on all, through a decomposition of the matrix.
                    allowed = (1e-6 if dtype == "F32" else 1e-9) * allowed.max()
                else:
                    allowed = (1e-6 if dtype == "F32" else 1e-14) * allowed
                assert (np.abs(found - truth) <= allowed).all(), label
            else:
                assert ulps(found, truth, dtype) <= 1, label


def bases(method: Method, base: Array) -> list[Array | None]:
    """The base, and none where the method can do without."""
    return [base, None] if method.base == "optional" else [base]


def in_one_piece(method: Method, shape: tuple[int, ...], given: dict[str, Any]) -> bool:
    """Whether the streaming form takes such a tensor in one piece."""
    n = models_of(method)
    return method.stream(Tensor(NAME, shape, n, method.resolve(given, n))).unit == "tensor"


def reach(method: Method, models: list[Array], base: Array | None, given: dict[str, Any]) -> Array:
    """How far rounding may carry, element by element: |base| + sum |w x delta|, or sum |w x weights|."""
    values = method.resolve(given, len(models))
    weights = np.abs(values.get("weight", [1.0] * len(models))) * max(1.0, abs(values.get("lambda", 1.0)))
    start = base if base is not None and method.takes_base else np.zeros_like(models[0])
    moved = sum(w * np.abs(m - start) for w, m in zip(np.maximum(weights, 1.0), models, strict=True))
    return np.asarray(np.abs(start) + moved)


def identical_models_are_unchanged(method: Method) -> None:
    """Merging copies of one model gives that model within one unit in the last place, for methods that say so."""
    if not method.idempotent:
        return
    for dtype in ("F32", "BF16", "F16"):
        model = sample((33, 17), dtype, 5)
        given = method.grid(models_of(method), 1)[0]
        if method.needs_base:
            whole = {"weight": 1.0 / models_of(method), "normalize": False, "lambda": 1.0, "alpha": 1.0, **KEEP_ALL}
            given = {**given, **{name: value for name, value in whole.items() if name in _names(method)}}
        # One model and a base are merged towards each other: there they have to be the same.
        other = model if method.needs_base and method.max_models == 1 else sample((33, 17), dtype, 6)
        for base in bases(method, other):
            found = by_kernel(method, [model] * models_of(method), base, dtype, given)
            assert ulps(found, to_float32(model, dtype), dtype) <= 1, f"{method.name} {dtype}"


def no_difference_gives_the_base(method: Method) -> None:
    """A method of deltas returns the base bit for bit where no model has moved, at any setting."""
    if not method.takes_base:
        return
    for given in settings(method):
        for dtype in DTYPES:
            base = sample((40, 13), dtype, 7)
            found = by_kernel(method, [base.copy() for _ in range(models_of(method))], base, dtype, given)
            assert found.tobytes() == base.tobytes(), f"{method.name} {given} {dtype}"


def blocks_change_nothing(method: Method) -> None:
    """The same bits whatever the size of the blocks."""
    for given in settings(method):
        for dtype in ("F32", "BF16"):
            models, base = experts(method, (61, 67), dtype)
            whole = by_kernel(method, models, base, dtype, given, block=1 << 16)
            for block in (64, 192, 512, 4096):
                found = by_kernel(method, models, base, dtype, given, block=block)
                assert found.tobytes() == whole.tobytes(), f"{method.name} {given} {dtype} block={block}"


def order_changes_nothing(method: Method) -> None:
    """The same bits in any order of the models, for methods that say so."""
    if not method.symmetric:
        return
    for given in settings(method):
        for dtype, ties in product(DTYPES, (False, True)):
            models, some = experts(method, (61, 67), dtype, ties)
            for base in bases(method, some):
                one = by_kernel(method, models, base, dtype, given)
                for order in permutations(range(len(models))):
                    moved = {k: [v[i] for i in order] if isinstance(v, list) else v for k, v in given.items()}
                    found = by_kernel(method, [models[i] for i in order], base, dtype, moved)
                    assert found.tobytes() == one.tobytes(), f"{method.name} {given} {dtype} {order}"


def extreme_densities(method: Method) -> None:
    """A share of 0 keeps the base; a share of 1 keeps every element, so it equals leaving the share out."""
    for share in sorted(SHARES & _names(method)):
        models, base = experts(method, (41, 9), "F32")
        nothing = by_kernel(method, models, base, "F32", {share: 0.0})
        assert nothing.tobytes() == base.tobytes(), f"{method.name}: {share} 0 moved the base"
        everything = by_kernel(method, models, base, "F32", {share: 1.0})
        assert everything.tobytes() == by_kernel(method, models, base, "F32", {}).tobytes()
        assert everything.tobytes() != base.tobytes()


def refuses_nan_and_inf(method: Method) -> None:
    """NaN or Inf anywhere is refused, and the error says in which model and where."""
    for dtype, bad, in_base in product(DTYPES, (np.nan, np.inf, -np.inf), (False, True)):
        models, base = experts(method, (50, 20), dtype)
        if in_base and not method.takes_base:
            continue
        (base if in_base else models[-1]).reshape(-1)[777] = from_float32(np.array([bad], np.float32), dtype)[0]
        try:
            by_kernel(method, models, base, dtype, {})
        except Exception as problem:
            place = "base" if in_base else f"model {len(models) - 1}"
            assert place in str(problem) and "777" in str(problem), problem
        else:
            raise AssertionError(f"{method.name} merged {bad} in {dtype}")


def seeds_matter_only_where_drawn(method: Method) -> None:
    """Another seed gives another result for a random method, and the same one for all others."""
    models, base = experts(method, (41, 9), "F32")
    given = {"density": 0.5} if method.random else {}
    one, two = (by_kernel(method, models, base, "F32", given, seed=s) for s in (1, 2))
    assert (one.tobytes() == two.tobytes()) == (not method.random), method.name


def grids_are_exact(method: Method) -> None:
    """grid(n, k) gives at most k settings; all valid, none twice, always the same, the default first.

    Fewer only where there are no more, or where more would favour some models by their place in the list.
    """
    low, high = method.min_models, method.max_models or method.min_models + 4
    for n_models in range(low, high + 1):
        full = method.grid(n_models, 23)
        assert 1 <= len(full) <= 23 and full == method.grid(n_models, 23), method.name
        for given in full:
            method.resolve(given, n_models)
        for k in range(1, 23):
            found, label = method.grid(n_models, k), (method.name, n_models, k)
            assert found[0] == full[0] and len(found) <= k, label
            assert len(found) == min(k, len(full)) or k - len(found) < n_models, label
        if n_models > 1 or method.max_models == 1:
            distinct = {repr(sorted(method.resolve(given, n_models).items())) for given in full}
            assert len(distinct) == len(full), f"{method.name}: a setting is tried twice"


def says_no_in_time(method: Method) -> None:
    """Wrong numbers of models, a missing base, unknown and wrong parameters are refused before anything runs."""
    n = models_of(method)
    assert method.refuses(n, has_base=True) is None
    assert method.refuses(0, has_base=True), "no models"
    if method.max_models is not None:
        assert method.name in (method.refuses(method.max_models + 1, has_base=True) or "")
    if method.needs_base:
        assert "base" in (method.refuses(n, has_base=False) or "")
    wrong: list[dict[str, Any]] = [{"wieght": 1.0}, *({p.name: "much"} for p in method.parameters)]
    for given in wrong:
        try:
            method.resolve(given, n)
        except FindingsError as problem:
            assert next(iter(given)) in str(problem)
        else:
            raise AssertionError(f"{method.name} took {given}")


CONTRACTS: tuple[Callable[[Method], None], ...] = (
    agrees_with_reference,
    identical_models_are_unchanged,
    no_difference_gives_the_base,
    blocks_change_nothing,
    order_changes_nothing,
    extreme_densities,
    refuses_nan_and_inf,
    seeds_matter_only_where_drawn,
    grids_are_exact,
    says_no_in_time,
)


def settings(method: Method) -> list[dict[str, Any]]:
    """The defaults, some candidates of the search, flags turned over singly and all, unequal values for the models.

    Each once: what resolves to the same values is the same setting.
    """
    n = models_of(method)
    out: list[dict[str, Any]] = [{}, *method.grid(n, 3)]
    flags = [p for p in method.parameters if p.kind == "flag"]
    out += [{p.name: not p.default, **_sparse(method)} for p in flags]
    if len(flags) > 1:
        out.append({**{p.name: not p.default for p in flags}, **_sparse(method)})
    unequal = {
        p.name: [
            p.low + (p.high - p.low) * (i + 1) / (n + 2) if np.isfinite(p.low + p.high) else 0.5 + i for i in range(n)
        ]
        for p in method.parameters
        if p.per_model
    }
    out += [unequal] if unequal else []
    unique: dict[str, dict[str, Any]] = {}
    for given in out:
        unique.setdefault(repr(sorted(method.resolve(given, n).items())), given)
    return list(unique.values())


def ulps(found: Array, truth: Array, dtype: str) -> float:
    """The largest distance between `found`, stored as `dtype`, and `truth`, in units of the last place of truth.

    Distances below 1e-15 don't count: they are float64's own, where sums cancel.
    """
    bits = {"F32": 23, "BF16": 7, "F16": 10}[dtype]
    floor = {"F32": -126, "BF16": -126, "F16": -14}[dtype]
    exact = np.asarray(truth, np.float64)
    with np.errstate(divide="ignore"):
        exponent = np.where(exact == 0, floor, np.floor(np.log2(np.abs(exact))))
    unit = np.exp2(np.maximum(exponent, floor) - bits)
    distance = np.abs(to_float32(found, dtype).astype(np.float64) - exact)
    return float((np.maximum(distance - 1e-15, 0) / unit).max(initial=0.0))


def _sparse(method: Method) -> dict[str, float]:
    return dict.fromkeys(sorted(SHARES & _names(method)), 0.4)


def _names(method: Method) -> set[str]:
    return {p.name for p in method.parameters}


def _wide(array: Array, dtype: str) -> Array:
    return array.astype(np.float64) if dtype == "F64" else to_float32(array, dtype)
