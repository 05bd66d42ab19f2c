"""Twins: finished steps that did the same work on inputs with the same content, made in another way.

A step behind a choice has a new key whenever the choice has a new candidate. Where the candidate is not chosen, its
inputs hold the bytes that they held before, so what it would compute is there already, under the old key.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from tunemerge.graph.step import Step
from tunemerge.store.artifacts import Artifact, Store

CONTENT_KEY = "content_key"


def content_key(step: Step, artifacts: Mapping[str, Artifact]) -> str:
    """A step's key by the content of its inputs, instead of by how they were made. `artifacts` has its parents."""
    return step.key_with({key: artifact.digest for key, artifact in artifacts.items()})


class Twins:
    """The finished steps of a store by the content of their inputs; read once, when first asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @cached_property
    def _found(self) -> dict[str, Artifact]:
        folders = (self._store.root / "artifacts").glob("*/[!.]*")
        artifacts = [a for folder in folders if (a := self._store.get(folder.name)) is not None]
        return {a.meta[CONTENT_KEY]: a for a in artifacts if CONTENT_KEY in a.meta}

    def adopt(self, step: Step, content: str, meta: Mapping[str, object]) -> Artifact | None:
        """Publish the twin's output as this step's too, by links; None where there is no sound twin."""
        twin = self._found.get(content)
        return None if twin is None else self._store.adopt(step.key, twin, meta)

    def add(self, artifact: Artifact) -> None:
        if CONTENT_KEY in artifact.meta:
            self._found.setdefault(artifact.meta[CONTENT_KEY], artifact)
