"""Merging: methods, kernels, recipes, and an engine that streams tensors from files or memory.

The package can be called: `tunemerge.merge("ties", [a, b], base=c, density=0.5)` is `memory.merge`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    def __call__(self, *args: Any, **parameters: Any) -> dict[str, Any]:
        from tunemerge.merge.memory import merge

        return merge(*args, **parameters)


sys.modules[__name__].__class__ = _CallablePackage
