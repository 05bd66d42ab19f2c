"""What is wrong with the rows of a study: labels, units, and test rows that training has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import pandas as pd

from tunemerge.findings import Finding, error, warning
from tunemerge.registry import listed
from tunemerge.tasks.spec import Spec

Frames = Mapping[str, pd.DataFrame]
Contents = Mapping[str, pd.Series]
TRAINED = ("source", "adapt")

# More of the test texts than this among the training texts is no accident: the tables are the same.
_SAME_ROWS = 0.2


def check_splits(parts: Frames, where: str) -> list[Finding]:
    """One task's splits, whatever its kind: what is tested needs two units."""
    return [
        error("one-unit", f"all {split} rows belong to one unit; intervals need two", where)
        for split, rows in parts.items()
        if split in ("test", "held_out") and len(rows) and rows["unit"].nunique() < 2
    ]


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
                    text = f"{seen} test texts of {tested} stand among the {split} rows of {name}"
                    make = error if seen > _SAME_ROWS * most else warning
                    found.append(
                        make("test-seen", text, f"tasks.{tested}", "delete them from one side: they flatter the result")
                    )
    return found + _same_tests(tasks, private)


def _same_tests(tasks: Mapping[str, Sequence[Contents]], private: Sequence[str]) -> list[Finding]:
    """Texts that are tested as two tasks: they count twice, and the intervals take them for independent."""
    tests = {name: set(by_seed[0]["test"]) for name, by_seed in tasks.items() if "test" in by_seed[0]}
    found = []
    for (one, first), (other, second) in combinations(tests.items(), 2):
        if not {one, other} <= set(private) and (both := len(first & second)):
            text = f"{both} of the {len(second)} test texts of {other} are test texts of {one} too: they count twice"
            found.append(warning("test-twice", text, f"tasks.{other}", "give every task test rows of its own"))
    return found


def check_specs(specs: Mapping[str, Spec | None], roles: Mapping[str, str]) -> list[Finding]:
    """Tasks that are trained on share one kind and label set; those only evaluated have no labels beyond theirs."""
    known = {n: spec for n, spec in specs.items() if spec is not None}
    trained = {n: s for n, s in known.items() if roles[n] not in ("retention", "unseen")}
    if not trained:
        return []
    (first, expected), *others = trained.items()
    found = []
    for name, own in others:
        if own.kind != expected.kind:
            text = f"tasks of a study are of one kind; {name} is {own.kind}, {first} is {expected.kind}"
            found.append(error("kinds-differ", text, f"tasks.{name}", "make a study for each"))
            continue
        lacks = [label for label in expected.labels if label not in own.labels]
        extra = [label for label in own.labels if label not in expected.labels]
        parts = [f"lacks {listed(map(repr, lacks))}"] if lacks else []
        parts += [f"has {listed(map(repr, extra))} that {first} lacks"] if extra else []
        if parts:
            text = f"tasks of a study share one label set; {name} {' and '.join(parts)}"
            fix = "rename labels with `labels: {raw: name}` in each task"
            found.append(error("label-sets-differ", text, f"tasks.{name}", fix))
    for name, own in known.items():
        strange = [label for label in own.labels if label not in expected.labels]
        if name not in trained and strange:
            text = f"test rows of {name} have labels that training lacks: {listed(map(repr, strange))}"
            fix = "map the label with `labels:` or delete the rows"
            found.append(error("label-not-in-training", text, f"tasks.{name}", fix))
    return found
