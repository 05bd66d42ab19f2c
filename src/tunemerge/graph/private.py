"""Private tasks: no step may read the rows of two of them."""

from __future__ import annotations

from collections.abc import Iterable

from tunemerge.findings import Finding, error, refuse_errors
from tunemerge.graph.plan import Plan, parent_steps
from tunemerge.graph.step import Leaf, Node, Step

# Operations whose output says something of every row, so that reading it is reading the rows.
ROW_BY_ROW = frozenset({"predict", "control"})


def owners(nodes: Iterable[Node]) -> tuple[str, ...]:
    """The private tasks whose rows a step with these inputs would read, directly or row by row through predictions."""
    found: dict[str, None] = {}
    for node in nodes:
        if isinstance(node, Leaf):
            found |= {node.private: None} if node.private else {}
        elif node.op in ROW_BY_ROW:
            found |= dict.fromkeys(owners(node.parents()))
    return tuple(found)


def pooling(plan: Plan) -> list[tuple[Step, tuple[str, ...]]]:
    """The steps that read the rows of more than one private task, with these tasks.

    Rows are known by their content: a copy of them as rows of a task that is not private is found too.
    """
    private: dict[str, set[str]] = {}
    for leaf in plan.leaves:
        if leaf.private:
            private.setdefault(leaf.key, set()).add(leaf.private)
    read: dict[str, dict[str, None]] = {}
    for step in plan.steps:
        own = [name for n in step.parents() if isinstance(n, Leaf) for name in sorted(private.get(n.key, ()))]
        through = [name for p in parent_steps(step) if p.op in ROW_BY_ROW for name in read[p.key]]
        read[step.key] = dict.fromkeys([*own, *through])
    return [(step, tuple(read[step.key])) for step in plan.steps if len(read[step.key]) > 1]


def refuse_pooling(plan: Plan) -> None:
    """Raises FindingsError with one `private-pooled` a step that reads the rows of two private tasks."""
    found: list[Finding] = [
        error(
            "private-pooled",
            f"a step {step.op!r} reads the rows of the private tasks {' and '.join(map(repr, names))}",
            where=step.label or step.key,
            remedy="give it rows of one of them, and combine what comes out (models, scores, sums)",
        )
        for step, names in pooling(plan)
    ]
    refuse_errors(found)
