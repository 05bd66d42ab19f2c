"""`tunemerge extract-lora` and `tunemerge merge-lora`, as a person sees them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from tunemerge.cli.bar import bar
from tunemerge.cli.device import checked_device
from tunemerge.cli.output import answer, screen
from tunemerge.errors import UsageError
from tunemerge.merge.lora.extract import Row
from tunemerge.merge.lora.files import extract_adapter, merge_adapters
from tunemerge.merge.lora.mix import METHOD_NAMES, Mix
from tunemerge.registry import nearest
from tunemerge.yamlfile import parse_yaml


def extract_one(
    model: str,
    base: str,
    out: Path,
    rank: int | None,
    energy: float | None,
    whole: list[str],
    skip: list[str],
    device: str,
) -> None:
    console = screen()
    with bar(console, "extracting") as tell:
        found = extract_adapter(
            model,
            base,
            out,
            rank=rank,
            energy=energy,
            whole=whole,
            skip=skip,
            device=checked_device(device),
            progress=tell,
        )
    console.print(_table(found.rows))
    lost = [row for row in found.rows if row.form == "lost"]
    if lost:
        names = ", ".join(f"{row.name} {list(row.shape)}" for row in lost[:3]) + (" ..." if len(lost) > 3 else "")
        console.print(f"not in the adapter: {len(lost)} tensors that changed: {names}", style="yellow", highlight=False)
    numbers = sum(row.numbers for row in found.rows)
    console.print(f"{numbers:,} numbers in the adapter", highlight=False)
    console.print(str(out), highlight=False, soft_wrap=True)
    answer(out=out, numbers=numbers, tensors=[asdict(row) for row in found.rows])


def merge_adapters_one(
    adapters: list[str],
    out: Path,
    method: str,
    weights: list[float],
    rank: int | None,
    energy: float | None,
    rule: str,
    settings: list[str],
    seed: int,
) -> None:
    console = screen()
    how = next((name for name in METHOD_NAMES if name == method), None)
    if how is None:
        raise UsageError(f"unknown method {method!r}{nearest(method, list(METHOD_NAMES))}")
    mix = Mix(how, tuple(weights) or None, rank, energy, rule, _parameters(settings), seed)
    with bar(console, "merging") as tell:
        merged = merge_adapters(adapters, out, mix, progress=tell)
    ranks = sorted({weight.rank for weight in merged.weights})
    console.print(f"{len(merged.weights)} modules, rank {_range(ranks)}", highlight=False)
    console.print(str(out), highlight=False, soft_wrap=True)
    answer(out=out, modules=len(merged.weights), ranks=ranks)


def _table(rows: Iterable[Row]) -> Table:
    """One line for the tensors that are alike: of one name in all layers, of one form."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        name = ".".join(part for part in row.name.split(".")[-3:] if not part.isdigit())
        groups.setdefault((name, row.form), []).append(row)
    table = Table(box=None, pad_edge=False)
    for column in ("tensors", "", "kept", "rank", "least energy", "mean", "numbers"):
        left = column in ("tensors", "kept")
        table.add_column(column, justify="left" if left else "right", overflow="fold", no_wrap=column == "numbers")
    for (name, form), same in groups.items():
        kept = [row.energy for row in same]
        ranks = sorted({row.rank for row in same if row.rank is not None})
        shares = [f"{min(kept):.4f}", f"{sum(kept) / len(kept):.4f}"]
        table.add_row(name, str(len(same)), form, _range(ranks), *shares, f"{sum(row.numbers for row in same):,}")
    return table


def _range(ranks: list[int]) -> str:
    return "-".join(str(rank) for rank in dict.fromkeys((ranks[0], ranks[-1]))) if ranks else ""


def _parameters(settings: list[str]) -> dict[str, object]:
    values = {}
    for text in settings:
        key, equals, raw = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text}: expected KEY=VALUE")
        values[key], _ = parse_yaml(raw, f"--set {key}")
    return values
