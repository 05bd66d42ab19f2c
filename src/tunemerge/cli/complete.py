"""What the shell completes: names of a run's arms and tasks, methods, kinds. Nothing where nothing can be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer


def arms(ctx: typer.Context, incomplete: str) -> list[str]:
    return _starting(incomplete, [arm["name"] for arm in _results(ctx).get("arms", ())])


def tasks(ctx: typer.Context, incomplete: str) -> list[str]:
    return _starting(incomplete, [task["name"] for task in _results(ctx).get("tasks", ())])


def keeps(incomplete: str) -> list[str]:
    runs = [p.name for p in sorted(Path("runs").glob("*")) if (p / "results.json").exists()]
    return _starting(incomplete, ["all", "models", "winner", "nothing", *runs])


def kinds(incomplete: str) -> list[str]:
    return _starting(incomplete, ["strategies", "methods", "tasks", "metrics"])


def new_kinds(incomplete: str) -> list[str]:
    return _starting(incomplete, ["method", "strategy", "metric", "task"])


def rules(incomplete: str) -> list[str]:
    """Task-vector methods."""
    from tunemerge.merge.method import METHODS

    return _starting(incomplete, METHODS.names())


def adapter_methods(incomplete: str) -> list[str]:
    from tunemerge.merge.lora.mix import METHOD_NAMES

    return _starting(incomplete, list(METHOD_NAMES))


def _results(ctx: typer.Context) -> dict[str, Any]:
    # While an option still lacks its value, what stands before it is not parsed into arguments yet.
    run = Path(str(ctx.params.get("run") or next(iter(ctx.args), "")))
    try:
        found = json.loads((run / "results.json" if run.is_dir() else run).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _starting(incomplete: str, names: list[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
