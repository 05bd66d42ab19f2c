"""Private tasks: no step may read the rows of two of them, and what goes wrong in a step shows no value of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping

from tunemerge.findings import Finding, error, refuse_errors
from tunemerge.graph.plan import Plan, parent_steps
from tunemerge.graph.step import Leaf, Node, Step

# Operations whose output says something of every row, so that reading it is reading the rows.
ROW_BY_ROW = frozenset({"predict", "control"})
# Messages quote values as Python does.
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
_HIDDEN = "\0"
_HIDDEN_LIST = re.compile(f"{_HIDDEN}(?:, {_HIDDEN})*(?: and (\\d+) more)?")


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


def without_quoted(message: str, said: Collection[str]) -> str:
    """The same message; of what it quotes only the words in `said` stay, the rest is counted."""
    hidden = _QUOTED.sub(lambda m: m[0] if m[0][1:-1] in said else _HIDDEN, message)
    return _HIDDEN_LIST.sub(_counted, hidden)


def words(value: object) -> Iterator[str]:
    """All texts in settings as the person wrote them: names of columns, labels as they are declared."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from words(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from words(inner)
    elif isinstance(value, str):
        yield value


def _counted(hidden: re.Match[str]) -> str:
    count = hidden[0].count(_HIDDEN) + int(hidden[1] or 0)
    return "a value" if count == 1 else f"{count} values"
