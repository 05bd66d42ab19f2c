"""Folds from a person's own function: any splitter that scikit-learn has, or one like it."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tunemerge.errors import UsageError
from tunemerge.registry import nearest

Fold = tuple[np.ndarray, np.ndarray]


def load_function(spec: str, folder: Path) -> Callable[..., Any]:
    """The function of `FILE:FUNCTION`; the file is run, as a module. Raises UsageError."""
    file, _, name = spec.rpartition(":")
    path = folder / file
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    found = importlib.util.spec_from_file_location(f"_tunemerge_{path.stem}", path)
    if found is None or found.loader is None:
        raise UsageError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(found)
    try:
        found.loader.exec_module(module)
    except Exception as e:
        raise UsageError(f"{path}: can't be run: {type(e).__name__}: {e}") from e
    function = getattr(module, name, None)
    if not callable(function):
        known = [n for n, value in vars(module).items() if inspect.isfunction(value)]
        raise UsageError(f"{path}: no function {name!r}{nearest(name, known)}")
    return function  # type: ignore[no-any-return]


def built_folds(
    make: Callable[..., Any], table: pd.DataFrame, labels: pd.Series, units: pd.Series, folds: int, seed: int, name: str
) -> list[Fold]:
    """(positions to train on, positions held out) of every fold, of the rows of `table`.

    `make` is called with `seed=` if it has such a parameter. Raises UsageError where the splitter fails, makes another
    number of folds, or puts a row or a unit on both sides.
    """
    takes_seed = "seed" in inspect.signature(make).parameters
    try:
        splitter = make(seed=seed) if takes_seed else make()
        found = [(np.asarray(a), np.asarray(b)) for a, b in splitter.split(table, labels, units)]
    except Exception as e:
        raise UsageError(f"{name}: the splitter failed: {type(e).__name__}: {e}") from e
    if len(found) != folds:
        raise UsageError(f"{name}: the splitter makes {len(found)} folds, the study says {folds}")
    of = units.to_numpy()
    for number, (train, held_out) in enumerate(found, 1):
        both = set(of[train]) & set(of[held_out])
        if both:
            text = f"fold {number} of the splitter has {len(both)} units on both sides, first {sorted(both)[0]!r}"
            raise UsageError(f"{name}: {text}: take one that keeps groups together, such as GroupKFold")
    return found
