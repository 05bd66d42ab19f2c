"""Merging what is in memory: NumPy arrays, torch state dicts or modules. The same plans and kernels as for files."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from tunemerge import machine
from tunemerge.checkpoint.dtypes import NUMPY, Array
from tunemerge.checkpoint.source import ArrayModel
from tunemerge.errors import UsageError
from tunemerge.merge.blocks import BLOCK, Sink
from tunemerge.merge.method import METHODS
from tunemerge.merge.parameters import Values
from tunemerge.merge.plan import TensorPlan
from tunemerge.merge.recipe.plain import plain_document, plan_models
from tunemerge.merge.runner import run_tensors

State = Mapping[str, Array]


def merge_state(
    method: str,
    states: Sequence[State],
    base: State | None = None,
    parameters: Values | None = None,
    *,
    seed: int = 0,
    average: Collection[str] = (),
    lines: Values | None = None,
    threads: int | None = None,
    device: str = "auto",
    block: int = BLOCK,
) -> dict[str, Array]:
    """Merge dicts of NumPy arrays by name; returns arrays of the base's dtypes (or the first state's).

    uint16 arrays are bfloat16 bit patterns, as `checkpoint.reader.read_tensor` returns them. `parameters`, `average`
    and `lines` as for `recipe.plain.plain_document`, results bit for bit those of a merge of files; `device` as for
    `runner.run_tensors`. Raises FindingsError with everything that is wrong.
    """
    models = [ArrayModel(f"model {i + 1}", state) for i, state in enumerate(states)]
    under = ArrayModel("the base", base) if base is not None else None
    everyone = [*models, *([under] if under else [])]
    names = [model.tensors.keys() for model in everyone]
    document = plain_document(METHODS[method], names, under is not None, parameters or {}, average=average, lines=lines)
    everyone = everyone[: len(document.merged)]
    plan = plan_models(document, everyone, seed=seed)
    out = {t.name: np.empty(t.shape, NUMPY[t.out_dtype]) for t in plan.tensors}

    def sink_of(tensor: TensorPlan) -> Sink:
        flat = out[tensor.name].reshape(-1)

        def sink(start: int, values: Array) -> None:
            flat[start : start + values.size] = values

        return sink

    threads = machine.threads() if threads is None else threads
    run_tensors(plan, everyone, sink_of, threads=threads, device=device, block=block)
    return out


def merge(
    method: str,
    models: Sequence[Any],
    base: Any = None,
    *,
    seed: int = 0,
    average: Collection[str] = (),
    lines: Values | None = None,
    device: str = "auto",
    **parameters: Any,
) -> dict[str, Any]:
    """Merge torch modules, torch state dicts or dicts of NumPy arrays; returns a dict of the same tensors' kind.

    >>> state = merge("ties", [model_a, model_b], base=base_model, weight=1.0, density=0.5)  # doctest: +SKIP
    >>> model_a.load_state_dict(state)  # doctest: +SKIP

    Parameters are the method's own (`lambda_` stands for lambda); a list gives one value a model. `lines={"alpha": ...,
    "beta": ...}` scales task vectors by depth. Methods of whole matrices compute on `device`, "auto" being a GPU where
    there is one. Tensors come back on the CPU; tensors that share memory in the first model share it in the result.
    """
    values = {"lambda" if name == "lambda_" else name: value for name, value in parameters.items()}
    states = [_plain(model) for model in models]
    start = _plain(base) if base is not None else None
    everyone = [*states, *([start] if start is not None else [])]
    options: dict[str, Any] = {"seed": seed, "average": average, "lines": lines, "device": device}
    if not any(_is_torch(value) for state in everyone for value in state.values()):
        return merge_state(method, states, start, values, **options)
    from tunemerge.merge.torch_state import from_numpy, to_numpy, twins

    shared = twins(states[0]) if states else {}
    single = [{name: v for name, v in state.items() if name not in shared} for state in everyone]
    arrays = [to_numpy(state) for state in single]
    merged = merge_state(method, arrays[: len(states)], arrays[-1] if start is not None else None, values, **options)
    out = from_numpy(merged)
    return {name: out[shared.get(name, name)] for name in states[0]}


def _plain(model: Any) -> Mapping[str, Any]:
    """The state dict of a module, or the mapping itself."""
    state = model.state_dict() if hasattr(model, "state_dict") else model
    if not isinstance(state, Mapping):
        raise UsageError(f"a {type(model).__name__} can't be merged; give modules, state dicts or dicts of arrays")
    return state


def _is_torch(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "torch"
