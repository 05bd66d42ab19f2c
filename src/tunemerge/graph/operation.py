"""Operations: what a step does. A plain function from a job (paths in, a folder to fill) to what it cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunemerge.graph.cost import Cost
from tunemerge.registry import Registry


@dataclass(frozen=True)
class Job:
    """What a worker hands to an operation. `out` is an empty folder; what is in it at the end is published.

    `unfinished` is a folder, to be made when it is needed, that outlives a kill: the next attempt at this very step is
    given it again. It is removed when the step is published.
    """

    params: Mapping[str, Any]
    inputs: Mapping[str, tuple[Path, ...]]
    out: Path
    progress: Callable[[float, str], None] = lambda fraction, message: None
    unfinished: Path | None = None

    def one(self, name: str) -> Path:
        """The single path given under this input's name."""
        (path,) = self.inputs[name]
        return path


Environment = Callable[[], Mapping[str, str]]
Prepare = Callable[[Mapping[str, Any]], None]
Uses = Callable[[Mapping[str, Any]], Mapping[str, str | int]]


@dataclass(frozen=True)
class Operation:
    """`version` is raised by hand whenever the result for the same inputs changes.

    `environment` names what else changes the numbers (torch version, device, threads); it is part of the key.
    `uses` gets a step's parameters and names the parts that have versions of their own (merge methods, plug-ins) and
    what changes the numbers of these alone: part of the key too, so that a changed part reruns the steps that use it
    and no others.
    `prepare` gets a step's parameters and does what a process does once for all such steps (imports, compilation): its
    time is nobody's cost, or the step that happens to come first would look dear.
    """

    name: str
    version: int
    run: Callable[[Job], Cost]
    environment: Environment
    prepare: Prepare = lambda params: None
    uses: Uses = lambda params: {}


OPERATIONS: Registry[Operation] = Registry("operation")


def operation(
    name: str,
    *,
    version: int,
    environment: Environment = dict,
    prepare: Prepare = lambda params: None,
    uses: Uses = lambda params: {},
) -> Callable[[Callable[[Job], Cost]], Callable[[Job], Cost]]:
    """Register a function as an operation. Modules of operations must import in milliseconds: no torch on top."""

    def register(run: Callable[[Job], Cost]) -> Callable[[Job], Cost]:
        OPERATIONS.add(name, Operation(name, version, run, environment, prepare, uses))
        return run

    return register
