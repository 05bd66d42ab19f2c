"""A layered drawing of a directed acyclic graph: columns by depth, few crossings, long edges routed through gaps."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean


@dataclass(frozen=True)
class Layout:
    """Where everything goes. `column` and `y` (top edge, px) of each node; `bends` of each edge: (column, y) of the
    passages between its ends, none for edges between neighbouring columns."""

    column: dict[str, int]
    y: dict[str, float]
    bends: dict[tuple[str, str], list[tuple[int, float]]]
    height: float


def depths(parents: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Longest path from a source. Parents that are not nodes themselves do not count."""
    found: dict[str, int] = {}
    pending = list(parents)
    while pending:
        node = pending[-1]
        missing = [p for p in parents[node] if p in parents and p not in found]
        if node in found or not missing:
            pending.pop()
            found.setdefault(node, max((found[p] + 1 for p in parents[node] if p in parents), default=0))
        else:
            pending += missing
    return found


def _sweep(columns: list[list[Hashable]], near: Mapping[Hashable, Sequence[Hashable]], order: Sequence[int]) -> None:
    """Sort each column by the mean place of the neighbours in the column before (barycentres; Sugiyama 1981)."""
    for previous, current in itertools.pairwise(order):
        place = {node: i for i, node in enumerate(columns[previous])}
        rank = {}
        for i, node in enumerate(columns[current]):
            seen = [place[n] for n in near.get(node, ()) if n in place]
            rank[node] = mean(seen) if seen else float(i)
        columns[current].sort(key=lambda n, rank=rank: rank[n])  # type: ignore[misc]


def _settle(
    columns: list[list[Hashable]],
    near: Mapping[Hashable, Sequence[Hashable]],
    size: Mapping[Hashable, float],
    gap: float,
) -> dict[Hashable, float]:
    """Centres: each node near its neighbours, in the column's order, without overlap. Relaxed a few times."""
    y: dict[Hashable, float] = {}
    for column in columns:
        at = 0.0
        for node in column:
            y[node] = at + size[node] / 2
            at += size[node] + gap
    for turn in range(14):
        for column in columns if turn % 2 == 0 else reversed(columns):
            # Sources stand beside the first of what they feed: a reader starts at the top left.
            pull = min if column is columns[0] else mean
            wished = [pull([y[n] for n in near[v]]) if near.get(v) else y[v] for v in column]
            _spread(column, wished, y, size, gap)
    top = min(y[v] - size[v] / 2 for v in y)
    return {v: c - top for v, c in y.items()}


def _spread(
    column: Sequence[Hashable],
    wished: Sequence[float],
    y: dict[Hashable, float],
    size: Mapping[Hashable, float],
    gap: float,
) -> None:
    """The nearest places to those wished that keep order and distance: pool adjacent violators."""
    offsets, at = [], 0.0
    for i, node in enumerate(column):
        at += (size[column[i - 1]] + size[node]) / 2 + gap if i else 0.0
        offsets.append(at)
    blocks: list[tuple[float, int]] = []
    for want, offset in zip(wished, offsets, strict=True):
        blocks.append((want - offset, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (b, m), (a, n) = blocks.pop(), blocks.pop()
            blocks.append(((a * n + b * m) / (n + m), n + m))
    i = 0
    for start, many in blocks:
        for _ in range(many):
            y[column[i]] = start + offsets[i]
            i += 1


def layered(parents: Mapping[str, Sequence[str]], node_height: float, gap: float) -> Layout:
    """Lay out nodes given with their parents. Deterministic: ties keep the order of the mapping."""
    column = depths(parents)
    columns: list[list[Hashable]] = [[] for _ in range(max(column.values(), default=-1) + 1)]
    for node in parents:
        columns[column[node]].append(node)
    size: dict[Hashable, float] = dict.fromkeys(parents, node_height)
    near: dict[Hashable, list[Hashable]] = {}
    passages: dict[tuple[str, str], list[Hashable]] = {}
    for child in parents:
        for parent in dict.fromkeys(p for p in parents[child] if p in parents):
            chain: list[Hashable] = [parent]
            for c in range(column[parent] + 1, column[child]):
                # Edges from one parent share their passages, which bundles them.
                passage = (parent, c)
                if passage not in size:
                    size[passage] = 4.0
                    columns[c].append(passage)
                chain.append(passage)
            passages[parent, child] = chain[1:]
            chain.append(child)
            for a, b in itertools.pairwise(chain):
                if b not in near.setdefault(a, []):
                    near[a].append(b)
                    near.setdefault(b, []).append(a)
    indices = range(len(columns))
    for _ in range(6):
        _sweep(columns, near, list(indices))
        _sweep(columns, near, list(reversed(indices)))
    _sweep(columns, near, list(indices))
    if not columns:
        return Layout({}, {}, {}, 0.0)
    centre = _settle(columns, near, size, gap)
    bends = {
        edge: [(c, centre[p]) for c, p in enumerate(chain, column[edge[0]] + 1)] for edge, chain in passages.items()
    }
    height = max(centre[v] + size[v] / 2 for v in centre)
    return Layout(column, {n: centre[n] - node_height / 2 for n in parents}, bends, height)
