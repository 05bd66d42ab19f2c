"""Packages that can be called: `tunemerge.tune(...)`, though `tunemerge.tune` is also the package of that name.

Python puts a subpackage into its parent under its own name as soon as anything imports it, over whatever stood there;
so the package itself answers the call, before and after.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any


def make_callable(package: str, module: str, name: str) -> None:
    """Calling `package` calls the function `name` of `module`, which is imported then."""

    def function() -> Callable[..., Any]:
        found: Callable[..., Any] = getattr(import_module(module), name)
        return found

    class CallablePackage(ModuleType):
        def __call__(self, *args: Any, **options: Any) -> Any:
            return function()(*args, **options)

        @property
        def __signature__(self) -> inspect.Signature:
            return inspect.signature(function())

    sys.modules[package].__class__ = CallablePackage
