"""Texts and paths from the command line, taken as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args


def convert_late(command: Any, ctx: Any) -> None:
    """Have typer load pydantic, which takes a tenth of a small merge, only for parameters that need it.

    Versions of typer that do not convert by pydantic stay as they are.
    """
    for parameter in command.get_params(ctx):
        if getattr(parameter, "_runtime_param", 0) is None:
            parameter._runtime_param = _Late(parameter)


class _Late:
    """Stands for typer's own conversion of a parameter until there is something that only typer converts."""

    def __init__(self, parameter: Any) -> None:
        annotation = parameter.type_descriptor.annotation
        self._kinds = {annotation, *get_args(annotation)} & {str, Path}
        self._repeats = parameter.multiple or parameter.nargs != 1

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        if value is None:
            return () if self._repeats else None
        if len(self._kinds) == 1 and isinstance(value, str) and not self._repeats:
            (kind,) = self._kinds
            return kind(value)
        param._runtime_param = None
        return param.get_runtime_param().coerce(value, param=param, ctx=ctx)
