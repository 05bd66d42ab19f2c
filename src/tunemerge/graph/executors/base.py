"""What an executor is: something that takes requests (names and paths, never live objects) and reports endings."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tunemerge.errors import UsageError
from tunemerge.graph.operation import OPERATIONS
from tunemerge.graph.private import owners
from tunemerge.graph.step import Leaf, Node, Step
from tunemerge.graph.twins import CONTENT_KEY, content_key
from tunemerge.plugins import used_plugins
from tunemerge.store.artifacts import Artifact, Store


@dataclass(frozen=True)
class Request:
    """One step to compute. All of it is JSON, so that it can go to another process or machine.

    `module` defines the operation and is imported by the worker, which loads the `plugins` too, each with its path,
    package and digest; `inputs` are pairs of key and path; `content` is the step's key by the content of its inputs.
    `private`: it reads rows of a private task, so what goes wrong is told without what may be a value of theirs.
    """

    key: str
    label: str
    op: str
    module: str
    params: Mapping[str, Any]
    inputs: Mapping[str, list[tuple[str, str]]]
    store: str
    content: str
    plugins: list[dict[str, str | None]] = field(default_factory=list)
    private: bool = False

    @property
    def meta(self) -> dict[str, Any]:
        """What the manifest says of how the artifact was made."""
        inputs = {name: [key for key, _ in sources] for name, sources in self.inputs.items()}
        return {"label": self.label, "params": dict(self.params), "inputs": inputs, CONTENT_KEY: self.content}


@dataclass(frozen=True)
class Progress:
    key: str
    fraction: float
    message: str


@dataclass(frozen=True)
class Done:
    """The artifact is in the store; `cached` where somebody else had put it there."""

    key: str
    cached: bool


@dataclass(frozen=True)
class Failed:
    """`lost` where the worker died with the step, which says nothing about the step and may be tried again."""

    key: str
    message: str
    lost: bool = False


class Executor(Protocol):
    """Obligations: every submitted request ends exactly once; an executor goes on after any ending and any kill."""

    @property
    def slots(self) -> int:
        """How many requests may be under way at once."""
        ...

    def submit(self, request: Request) -> None:
        """Start on a request, without waiting for it."""
        ...

    def wait(self, on_progress: Callable[[Progress], None]) -> Done | Failed:
        """Wait until a request ends; progress of all that are under way is handed on meanwhile."""
        ...

    def kill(self) -> None:
        """Forget all requests at once; nothing works on them any more when this returns."""
        ...


def request_for(step: Step, artifacts: Mapping[str, Artifact], store: Store) -> Request:
    """What a worker needs to know of a step whose parents are all in `artifacts`."""

    def source(node: Node) -> tuple[str, str]:
        path = node.path if isinstance(node, Leaf) else artifacts[node.key].path
        return node.key, str(path.absolute())

    return Request(
        key=step.key,
        label=step.label,
        op=step.op,
        module=importable_module(step.op),
        params=json.loads(json.dumps(dict(step.params), allow_nan=False)),
        inputs={name: [source(node) for node in nodes] for name, nodes in step.inputs.items()},
        store=str(store.root),
        content=content_key(step, artifacts),
        plugins=used_plugins(OPERATIONS[step.op].uses(step.params).values()),
        private=bool(owners(step.parents())),
    )


def importable_module(op: str) -> str:
    """The name by which another process can import the module that defines an operation."""
    module = OPERATIONS[op].run.__module__
    if module != "__main__":
        return module
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:
        return str(spec.name)
    if file is not None:
        return Path(file).stem  # its folder is on sys.path, which workers are given
    raise UsageError(f"operation {op!r} was defined interactively; put it into a module, so that workers can import it")
