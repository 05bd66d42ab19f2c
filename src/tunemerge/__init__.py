"""tunemerge: merge then tune, or tune then merge? Both orders on your models and data, at equal cost.

    study = tunemerge.Study.from_yaml("study.yaml")
    results = study.run()
    pandas.DataFrame(results.table())

The public names are loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunemerge.evaluate.predict import predict
    from tunemerge.merge.memory import merge
    from tunemerge.results import Results
    from tunemerge.study.study import Study
    from tunemerge.tune.model import tune_model as tune

_PUBLIC = {
    "Results": ("tunemerge.results", "Results"),
    "Study": ("tunemerge.study.study", "Study"),
    "merge": ("tunemerge.merge.memory", "merge"),
    "predict": ("tunemerge.evaluate.predict", "predict"),
    "tune": ("tunemerge.tune.model", "tune_model"),
}
__all__ = ["Results", "Study", "merge", "predict", "tune"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tunemerge' has no attribute {name!r}")
    module, attribute = _PUBLIC[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
