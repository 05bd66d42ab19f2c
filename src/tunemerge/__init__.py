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
    from tunemerge.evaluate.answers import predict
    from tunemerge.evaluate.single import evaluate
    from tunemerge.merge.memory import merge
    from tunemerge.results import Results
    from tunemerge.study.study import Study
    from tunemerge.tune.find_rate import find_learning_rate
    from tunemerge.tune.single import tune

_NAMES = {
    "Results": "tunemerge.results",
    "Study": "tunemerge.study.study",
    "find_learning_rate": "tunemerge.tune.find_rate",
    "predict": "tunemerge.evaluate.answers",
}
_CALLABLE_PACKAGES = ("evaluate", "merge", "tune")
__all__ = ["Results", "Study", "evaluate", "find_learning_rate", "merge", "predict", "tune"]


def __getattr__(name: str) -> Any:
    if name in _CALLABLE_PACKAGES:
        return import_module(f"tunemerge.{name}")
    if name not in _NAMES:
        raise AttributeError(f"module 'tunemerge' has no attribute {name!r}")
    return getattr(import_module(_NAMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
