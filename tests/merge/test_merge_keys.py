"""The key of a step that merges changes with the methods that it uses, and with no other."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

import tunemerge.merge.recipe.steps
import tunemerge.search.operation  # noqa: F401 (registers "merge" and "search")
from tunemerge.graph.step import Step
from tunemerge.merge.method import METHODS
from tunemerge.testing.methods import in_one_piece

TRAINED = {"method": "ties", "average": ["classifier."], "seed": 0}
SCORED = {"task": {"kind": "text-classification", "labels": [], "options": {}}, "metric": "accuracy"}
STEPS = {
    "merge": Step("merge", {**TRAINED, "parameters": {}}),
    "merge without heads": Step("merge", {**TRAINED, "parameters": {}, "average": []}),
    "search": Step("search", {**TRAINED, "candidates": [{"density": 0.5}], **SCORED}),
    "recipe": Step("recipe", {"document": {"merge_method": "ties"}, "device": "auto"}),
}


def key(step: Step) -> str:
    return Step(step.op, step.params).key


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize(("method", "used"), [("ties", True), ("linear", None), ("sce", False), ("iso_c", False)])
def test_a_new_version_of_a_method_reruns_what_used_it(
    name: str, method: str, used: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if used is None:
        used = name != "merge without heads"
    before = key(STEPS[name])
    assert before == key(STEPS[name])
    changed = replace(METHODS[method], version=METHODS[method].version + 1)
    monkeypatch.setitem(METHODS._items, method, changed)
    assert (key(STEPS[name]) != before) == used


@pytest.mark.parametrize(("method", "numeric"), [("iso_c", True), ("ties", False)])
@pytest.mark.parametrize("what", ["torch", "device"])
def test_torch_and_the_device_are_in_the_key_where_torch_computes(
    method: str, numeric: bool, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [
        Step("merge", {**TRAINED, "method": method, "parameters": {}}),
        Step("recipe", {"document": {"merge_method": method}, "device": "auto"}),
    ]
    before = [key(step) for step in steps]
    changes: dict[str, Any] = {
        "torch": ("metadata.version", lambda package: "9.9.9"),
        "device": ("environment", lambda: {"device": "cuda NVIDIA H100"}),
    }
    at, value = changes[what]
    monkeypatch.setattr(f"tunemerge.merge.versions.{at}", value)
    assert [key(step) != old for step, old in zip(steps, before, strict=True)] == [numeric, numeric]


def test_methods_that_torch_computes_say_so() -> None:
    whole = {name for name, method in METHODS if in_one_piece(method, (33, 17), {})}
    assert whole == {name for name, method in METHODS if method.torch} != set()


def test_versions_are_told_without_torch() -> None:
    code = (
        "import sys; from tunemerge.merge.versions import versions_of; "
        "print(versions_of(['wudi'])); print([m for m in ('torch', 'numba') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert "'method wudi': " in out[0] and "'torch': " in out[0]
    assert out[1] == "[]"
