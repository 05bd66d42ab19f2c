"""Nodes of the graph: leaves that exist already, steps that will be computed, and the key of each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from tunemerge.graph.operation import OPERATIONS
from tunemerge.store.digest import digest_json

Role = Literal["model", "rows", "test"]


@dataclass(frozen=True)
class Leaf:
    """Something that exists before the run: a model folder or one split of the rows.

    Its key is its content, not its path. `role` "test" marks rows that only a last evaluation may read; `private` is
    the task whose private rows these are.
    """

    digest: str
    path: Path
    role: Role
    label: str
    private: str = ""

    @property
    def key(self) -> str:
        return self.digest

    @property
    def name(self) -> str:
        """What people call it."""
        return self.label


@dataclass(frozen=True, eq=False)
class Step:
    """One operation applied to inputs. `params` are resolved (defaults filled in) and JSON; inputs are named.

    Two steps with the same key are the same step, whoever asked for them. `label` is for people: the name of what
    comes out, and after a colon what it is made of.
    """

    op: str
    params: Mapping[str, Any]
    inputs: Mapping[str, tuple[Node, ...]] = field(default_factory=dict)
    label: str = ""

    @property
    def name(self) -> str:
        """What people call what comes out."""
        return self.label.partition(":")[0]

    @cached_property
    def key(self) -> str:
        """Known when the plan is made: from the keys of the inputs, never from their content."""
        return self.key_with({})

    def key_with(self, known: Mapping[str, str]) -> str:
        """The key that this step would have if inputs whose key is in `known` were called by what stands there."""
        operation = OPERATIONS[self.op]
        inputs = {name: [known.get(n.key, n.key) for n in nodes] for name, nodes in sorted(self.inputs.items())}
        return digest_json(
            {
                "op": self.op,
                "version": operation.version,
                "params": json.loads(json.dumps(dict(self.params), allow_nan=False)),
                "inputs": inputs,
                "environment": {**operation.environment(), **operation.uses(self.params)},
            }
        )

    def parents(self) -> Iterator[Node]:
        for _, nodes in sorted(self.inputs.items()):
            yield from nodes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Step) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)


Node = Leaf | Step
