"""Importing this module registers every operation that a study's graph uses. It imports no torch."""

from tunemerge.evaluate import control as _control
from tunemerge.evaluate import operation as _predict
from tunemerge.merge import operation as _merge
from tunemerge.search import operation as _search
from tunemerge.search import select as _select
from tunemerge.tune import fit as _fit
from tunemerge.tune import init as _init
from tunemerge.tune import operation as _tune

__all__ = ["_control", "_fit", "_init", "_merge", "_predict", "_search", "_select", "_tune"]
