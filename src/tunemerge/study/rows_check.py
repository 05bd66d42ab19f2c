"""What is wrong with the rows of a study: labels, and test rows that training has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import pandas as pd

from tunemerge.findings import Finding, error, note, warning
from tunemerge.registry import listed
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS

Frames = Mapping[str, pd.DataFrame]
Contents = Mapping[str, pd.Series]
TRAINED = ("source", "adapt")

# More of the test rows than this among the training rows is no accident: the tables are the same.
_SAME_ROWS = 0.2


def check_leaks(tasks: Mapping[str, Sequence[Contents]], private: Sequence[str] = ()) -> list[Finding]:
    """Inputs of a test set that stand among the rows that some task trains or chooses on, in any run. Rows of two
    `private` tasks are not laid side by side."""
    found = []
    for tested, by_seed in tasks.items():
        tests = [set(parts.get("held_out", ())) | set(parts.get("test", ())) for parts in by_seed]
        most = max((len(test) for test in tests), default=0)
        for name, others in tasks.items():
            if name != tested and {name, tested} <= set(private):
                continue
            for split in (*TRAINED, "validation"):
                pairs = zip(tests, others, strict=False)
                seen = max((len(test & set(parts[split])) for test, parts in pairs if split in parts), default=0)
                if seen:
                    text = f"{seen} test rows of {tested} stand among the {split} rows of {name}"
                    make = error if seen > _SAME_ROWS * most else warning
                    found.append(
                        make("test-seen", text, f"tasks.{tested}", "delete them from one side: they flatter the result")
                    )
    return found + _same_tests(tasks, private)


def _same_tests(tasks: Mapping[str, Sequence[Contents]], private: Sequence[str]) -> list[Finding]:
    """Rows that are tested as two tasks: they count twice, and the intervals take them for independent."""
    tests = {name: set(by_seed[0]["test"]) for name, by_seed in tasks.items() if "test" in by_seed[0]}
    found = []
    for (one, first), (other, second) in combinations(tests.items(), 2):
        if not {one, other} <= set(private) and (both := len(first & second)):
            text = f"{both} of the {len(second)} test rows of {other} are test rows of {one} too: they count twice"
            found.append(warning("test-twice", text, f"tasks.{other}", "give every task test rows of its own"))
    return found


def check_specs(specs: Mapping[str, Spec | None], roles: Mapping[str, str]) -> list[Finding]:
    """Tasks of one kind and label set share a head, others have heads of their own, where their kinds can share a body;
    a task that is only evaluated has no labels beyond those of one head."""
    known = {n: spec for n, spec in specs.items() if spec is not None}
    trained = {n: s for n, s in known.items() if roles[n] not in ("retention", "unseen")}
    if not trained:
        return []
    found = _heads(trained)
    for name, own in known.items():
        alike = [s for s in trained.values() if s.kind == own.kind]
        if name in trained or any(set(own.labels) <= set(s.labels) for s in alike):
            continue
        nearest = max(alike, key=lambda s: len(set(s.labels) & set(own.labels)), default=Spec(own.kind))
        strange = [label for label in own.labels if label not in nearest.labels]
        text = f"test rows of {name} have labels that training lacks: {listed(map(repr, strange))}"
        fix = "map the label with `labels:` or delete the rows"
        found.append(error("label-not-in-training", text, f"tasks.{name}", fix))
    return found


def _heads(trained: Mapping[str, Spec]) -> list[Finding]:
    """Which heads the models have, and which rows these share."""
    by_spec: dict[str, list[str]] = {}
    for name, spec in trained.items():
        by_spec.setdefault(repr(spec), []).append(name)
    if len(by_spec) == 1:
        return []
    heads = [(names, trained[names[0]]) for names in by_spec.values()]
    (first, expected), *_ = heads
    sorts = {TASKS[spec.kind].shares_body for _, spec in heads}
    headless = len(sorts) == 1 and sorts != {""} and not any(TASKS[spec.kind].head_names for _, spec in heads)
    for names, spec in heads if not headless else ():
        if (spec.kind, spec.labels) == (expected.kind, expected.labels) and spec is not expected:
            keys = {*spec.options, *expected.options}
            key = min(k for k in keys if spec.options.get(k) != expected.options.get(k))
            here, there = (repr(s.options.get(key)) for s in (spec, expected))
            text = f"tasks of a study share one model; {names[0]} has {key} {here}, {first[0]} has {there}"
            return [error("options-differ", text, f"tasks.{names[0]}.{key}", "say the same in both")]
    for names, spec in heads:
        if not TASKS[spec.kind].shares_body or len(sorts) > 1:
            text = (
                f"tasks of kind {spec.kind} share no body with others; {names[0]} differs in kind, labels or template"
            )
            fix = "rename labels with `labels:` where they are the same, else make a study for each"
            return [error("label-sets-differ", text, f"tasks.{names[0]}", fix)]
    told = "; ".join(f"{' and '.join(names)} ({_told(spec)})" for names, spec in heads)
    if headless:
        return [note("several-label-sets", f"{len(heads)} sets of labels, one model without heads: {told}", "tasks")]
    found = [note("several-heads", f"{len(heads)} heads on one merged body: {told}", "tasks")]
    for ((one, *_), a), ((other, *_), b) in combinations(heads, 2):
        both = [label for label in a.labels if label in b.labels]
        if both and a.kind != b.kind:
            text = f"{both[0]!r} is a class of one of {one} and {other}, and the quantity of the other"
            found.append(error("label-clash", text, f"tasks.{other}", "call the quantity otherwise: `quantity:`"))
        elif both:
            text = f"{one} and {other} both have {listed(map(repr, both))}: one output for both, learned and merged"
            fix = "if a name means something else in each, rename it with `labels:`"
            found.append(note("labels-overlap", text, f"tasks.{other}", fix))
    return found


def _told(spec: Spec) -> str:
    return f"{len(spec.labels)} labels" if len(spec.labels) > 1 else f"{spec.labels[0]}, a value"
