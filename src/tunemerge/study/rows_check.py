"""What is wrong with the rows of a study: classes, labels, units, and test rows that training has seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import pandas as pd

from tunemerge.findings import Finding, error, warning
from tunemerge.registry import listed

Frames = Mapping[str, pd.DataFrame]
TRAINED = ("source", "adapt")

# More of the test texts than this among the training texts is no accident: the tables are the same.
_SAME_ROWS = 0.2


def check_splits(parts: Frames, where: str) -> list[Finding]:
    """One task's splits: empty, one class, one unit, labels that training lacks."""
    found = []
    for split, rows in parts.items():
        labels = set(rows["label"])
        if len(labels) == 1:
            found.append(error("one-class", f"all {split} rows have the label {labels.pop()!r}", where))
        if split in ("test", "held_out") and len(rows) and rows["unit"].nunique() < 2:
            found.append(error("one-unit", f"all {split} rows belong to one unit; intervals need two", where))
    known = set().union(*(set(parts[s]["label"]) for s in TRAINED if s in parts))
    if known:
        for split in ("validation", "test", "held_out"):
            if split in parts:
                found += strange_labels(parts[split], split, known, where)
    return found


def strange_labels(rows: pd.DataFrame, split: str, known: Iterable[str], where: str) -> list[Finding]:
    """Rows with labels that training lacks, the first of them named."""
    strange = rows[~rows["label"].isin(set(known))]
    if strange.empty:
        return []
    first = strange.iloc[0]
    text = (
        f"{len(strange)} {split} rows have labels that training lacks, first {first['label']!r} in data row "
        f"{int(strange.index[0]) + 1}; training has {listed(map(repr, sorted(known)))}"
    )
    return [error("label-not-in-training", text, where, "map the label with `labels:` or delete the rows")]


def check_leaks(tasks: Mapping[str, Sequence[Frames]], private: Sequence[str] = ()) -> list[Finding]:
    """Texts of a test set that stand among the rows that some task trains or chooses on, for any seed. Rows of two
    `private` tasks are not laid side by side."""
    found = []
    for tested, by_seed in tasks.items():
        test = set(next((parts["test"]["text"] for parts in by_seed if "test" in parts), ()))
        if not test:
            continue
        for name, others in tasks.items():
            if name != tested and {name, tested} <= set(private):
                continue
            for split in (*TRAINED, "validation"):
                seen = max((len(test & set(parts[split]["text"])) for parts in others if split in parts), default=0)
                if seen:
                    text = f"{seen} test texts of {tested} stand among the {split} rows of {name}"
                    make = error if seen > _SAME_ROWS * len(test) else warning
                    found.append(
                        make("test-seen", text, f"tasks.{tested}", "delete them from one side: they flatter the result")
                    )
    return found + _same_tests(tasks, private)


def _same_tests(tasks: Mapping[str, Sequence[Frames]], private: Sequence[str]) -> list[Finding]:
    """Texts that are tested as two tasks: they count twice, and the intervals take them for independent."""
    tests = {name: set(by_seed[0]["test"]["text"]) for name, by_seed in tasks.items() if "test" in by_seed[0]}
    found = []
    for (one, first), (other, second) in combinations(tests.items(), 2):
        if not {one, other} <= set(private) and (both := len(first & second)):
            text = f"{both} of the {len(second)} test texts of {other} are test texts of {one} too: they count twice"
            found.append(warning("test-twice", text, f"tasks.{other}", "give every task test rows of its own"))
    return found


def check_label_sets(labels: Mapping[str, Sequence[str]]) -> list[Finding]:
    """Tasks that are trained on share one label set."""
    if len({tuple(v) for v in labels.values()}) <= 1:
        return []
    (first, expected), *others = labels.items()
    found = []
    for name, own in others:
        lacks = [label for label in expected if label not in own]
        extra = [label for label in own if label not in expected]
        parts = [f"lacks {listed(map(repr, lacks))}"] if lacks else []
        parts += [f"has {listed(map(repr, extra))} that {first} lacks"] if extra else []
        if parts:
            text = f"tasks of a study share one label set; {name} {' and '.join(parts)}"
            fix = "rename labels with `labels: {raw: name}` in each task"
            found.append(error("label-sets-differ", text, f"tasks.{name}", fix))
    return found
