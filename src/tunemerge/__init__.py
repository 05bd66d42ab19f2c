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
    from tunemerge.merge.memory import merge
    from tunemerge.results import Results
    from tunemerge.study.single import evaluate, tune
    from tunemerge.study.study import Study

_PUBLIC = {
    "Results": ("tunemerge.results", "Results"),
    "Study": ("tunemerge.study.study", "Study"),
    "evaluate": ("tunemerge.study.single", "evaluate"),
    "merge": ("tunemerge.merge.memory", "merge"),
    "tune": ("tunemerge.study.single", "tune"),
}
__all__ = ["Results", "Study", "evaluate", "merge", "tune"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tunemerge' has no attribute {name!r}")
    module, attribute = _PUBLIC[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
