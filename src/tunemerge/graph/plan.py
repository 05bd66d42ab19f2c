"""The plan: every step that the targets need, once each, parents first, in an order that is always the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tunemerge.findings import Finding, error, refuse_errors
from tunemerge.graph.step import Leaf, Node, Step


@dataclass(frozen=True)
class Plan:
    """`steps` are in topological order, deduplicated by key (the first label asked for stays).

    `leaves` are all that any step reads, deduplicated by key, role and whose private rows they are.
    """

    targets: tuple[Step, ...]
    steps: tuple[Step, ...]
    leaves: tuple[Leaf, ...]

    @classmethod
    def of(cls, targets: Iterable[Step]) -> Plan:
        """Walk from the targets, in their order, depth first; no recursion, however long a chain is."""
        wanted = tuple(targets)
        steps: dict[str, Step] = {}
        leaves: dict[tuple[str, str, str], Leaf] = {}
        entered, left = set[int](), set[int]()
        stack: list[Node] = list(reversed(wanted))
        while stack:
            node = stack[-1]
            if isinstance(node, Leaf):
                leaves.setdefault((node.key, node.role, node.private), node)
                stack.pop()
            elif id(node) not in entered:
                entered.add(id(node))
                stack.extend(reversed(list(node.parents())))
            else:
                stack.pop()
                if id(node) not in left:
                    left.add(id(node))
                    steps.setdefault(node.key, node)
        return cls(tuple({s.key: s for s in wanted}.values()), tuple(steps.values()), tuple(leaves.values()))


def parent_steps(step: Step) -> list[Step]:
    """The steps (not leaves) that a step reads."""
    return [node for node in step.parents() if isinstance(node, Step)]


def refuse_test_leaks(plan: Plan) -> None:
    """Test rows may be read by a last evaluation only, and nothing may be made from that evaluation.

    Raises FindingsError with one `test-leak` a fault. Rows count as test rows by their content: a copy of
    them under another role is found too.
    """
    secret = {leaf.key: leaf.label for leaf in plan.leaves if leaf.role == "test"}
    read = {s.key: [secret[n.key] for n in s.parents() if isinstance(n, Leaf) and n.key in secret] for s in plan.steps}
    found: list[Finding] = []
    for step in plan.steps:
        final = step.op in ("predict", "control") and step.params.get("final") is True
        if read[step.key] and not final:
            found.append(
                error(
                    "test-leak",
                    f"a step {step.op!r} reads the test rows {', '.join(map(repr, read[step.key]))} "
                    "(or rows with the very same content)",
                    where=step.label or step.key,
                    remedy="give it train or validation rows; only a last evaluation may read the test rows",
                )
            )
        for parent in parent_steps(step):
            if read[parent.key]:
                found.append(
                    error(
                        "test-leak",
                        f"a step {step.op!r} uses what came from test rows: the output of {parent.label!r}",
                        where=step.label or step.key,
                        remedy="choose by an evaluation on validation rows",
                    )
                )
    refuse_errors(found)
