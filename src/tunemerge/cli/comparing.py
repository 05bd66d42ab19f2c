"""`tunemerge compare`, as a person sees it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from tunemerge.cli.bar import print_findings
from tunemerge.cli.output import answer, as_dicts, print_table, screen
from tunemerge.report import format as fmt
from tunemerge.study.compare import Comparison, Pair, compare_runs


def compare_and_show(first: Path, second: Path) -> None:
    """Leaderboards side by side, the arms handed back, and what differs in the study files."""
    found, console = compare_runs(first, second), screen()
    print_table(console, _table(found))
    seeds = f"seeds {', '.join(map(str, found.seeds))}" if found.seeds else "no common seeds"
    metric = fmt.metric_name(found.metric)
    lines = [
        f"test {metric} on {', '.join(found.tasks)}; differences: second minus first, {seeds}, 95% intervals; "
        "p of each pair alone"
    ]
    if found.handed_back:
        pair = found.handed_back
        lines.append(
            f"handed back: {pair.arm}, then {pair.other}: {_difference(pair, found.metric) or 'no difference'}"
        )
    lines.append("the study files differ in:" if found.settings else "the study files have the same settings")
    lines += [f"  {key}: {_short(one)} | {_short(two)}" for key, (one, two) in found.settings.items()]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    print_findings(found.findings, console)
    values = {name: value for name, value in vars(found).items() if name not in ("pairs", "handed_back", "findings")}
    answer(
        **values,
        pairs=[_document(pair) for pair in found.pairs],
        handed_back=found.handed_back and _document(found.handed_back),
        findings=as_dicts(found.findings),
    )


def _table(found: Comparison) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("arm", overflow="fold")
    for name in (found.first, found.second, "difference", "p"):
        table.add_column(Text(name), justify="right", overflow="fold", no_wrap=name in ("difference", "p"))
    sign = 1 if found.higher_is_better else -1
    for pair in sorted(found.pairs, key=lambda p: -sign * _better(p, sign)):
        table.add_row(
            Text(pair.arm or pair.other),
            fmt.score(pair.first, found.metric) if pair.first is not None else "",
            fmt.score(pair.second, found.metric) if pair.second is not None else "",
            _difference(pair, found.metric),
            fmt.p_value(pair.p) if pair.p is not None else "",
        )
    return table


def _better(pair: Pair, sign: int) -> float:
    """The better of a pair's scores."""
    return sign * max(sign * value for value in (pair.first, pair.second) if value is not None)


def _difference(pair: Pair, metric: str) -> str:
    return "" if pair.difference is None else fmt.contrast(pair.difference, metric)


def _document(pair: Pair) -> dict[str, Any]:
    return {**asdict(pair), "difference": pair.difference and pair.difference.model_dump()}


def _short(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False) if value is not None else "(not given)"
    return text if len(text) <= 60 else text[:57] + "..."
