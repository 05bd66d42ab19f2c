"""`tunemerge ls`, `gc` and `verify`, as a person sees them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from tunemerge.cli.bar import bar, print_findings
from tunemerge.cli.output import answer, as_dicts, as_json, print_table, screen
from tunemerge.errors import UsageError
from tunemerge.registry import listed, nearest
from tunemerge.report import format as fmt
from tunemerge.store import STORE
from tunemerge.store.artifacts import Store
from tunemerge.store.collect import Choice, Sweep, plan_sweep, sweep
from tunemerge.store.holds import gate
from tunemerge.store.inventory import Entry, disk_usage, entries
from tunemerge.store.verify import verify_store
from tunemerge.study.uses import KEEPS, RunUse, by_rule, read_uses

_AGE = re.compile(r"(\d+(?:\.\d+)?)(m|h|d|w)")
_SECONDS = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)(k|M|G|T)B?")
_BYTES = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


def list_steps(folder: Path) -> None:
    """A row for every finished step, the oldest first."""
    store, uses = Store(folder / STORE), read_uses(folder / "runs")
    found, total = entries(store), disk_usage(store.root)
    rows = [{**_facts(e), "runs": _uses(e.key, uses)} for e in found]
    answer(store=store.root, bytes=total, artifacts=rows)
    if as_json():
        return
    console = screen()
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    columns = ("step", "for", "seed", "size", "age", "seconds", "examples", "key")
    for name in columns:
        right = name in ("seed", "size", "age", "seconds", "examples")
        table.add_column(name, justify="right" if right else "left", no_wrap=right or name == "key", overflow="fold")
    now = time.time()
    for e in found:
        runs, seeds = _for(e.key, uses)
        mark = {"complete": "", "stripped": " (model removed)", "incomplete": "incomplete"}[e.state]
        examples = e.cost.get("examples")
        cost = (fmt.seconds(e.cost.get("seconds")) if e.cost else "", fmt.count(examples) if examples else "")
        cells = (Text(f"{e.label or e.op}{mark}"), Text(runs), seeds, fmt.memory(e.size), age(now - e.made), *cost)
        table.add_row(*cells, e.key[:10])
    if found:
        print_table(console, table)
    steps = fmt.plural(len(found), "step")
    console.print(f"{steps}, {fmt.memory(total)} in {store.root}", highlight=False, markup=False, soft_wrap=True)


def collect_garbage(folder: Path, keep: Sequence[str], agreed: bool) -> None:
    """Show what would go, ask, and remove it."""
    store, uses = Store(folder / STORE), read_uses(folder / "runs")
    choice = choice_of(keep, uses, entries(store))
    if not store.root.exists():
        found = Sweep((), (), (), (), ())
    else:
        with gate(store.root) as held:
            found = plan_sweep(store, choice, held)
    console, before = screen(), disk_usage(store.root)
    for line in _described(found, before, store.root):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    freed, done = 0, False
    if not found.empty and (agreed or (not as_json() and typer.confirm("Remove them?"))):
        found, freed = sweep(store, choice)
        done = True
        console.print(f"freed {fmt.memory(freed)}; {fmt.memory(disk_usage(store.root))} are left", highlight=False)
    parts = {name: [e.key for e in getattr(found, name)] for name in ("remove", "strip", "keep", "held")}
    answer(store=store.root, bytes=before, done=done, freed=freed, **parts, files=[str(p) for p in found.loose])


def verify_all(folder: Path) -> int:
    """Read every byte; the exit code is 1 where something is not as it was stored."""
    store, console = Store(folder / STORE), screen()
    count, size = len(entries(store)), disk_usage(store.root)
    with bar(console, "verifying") as tell:
        found = verify_store(store, tell)
    print_findings(found, console)
    answer(store=store.root, bytes=size, artifacts=count, findings=as_dicts(found))
    what = f"{fmt.plural(count, 'step')}, {fmt.memory(size)} in {store.root}"
    if found:
        console.print(f"{what}: {fmt.plural(len(found), 'file')} damaged", style="bold red", highlight=False)
        return 1
    console.print(f"{what}: all as it was stored", style="green", highlight=False, markup=False, soft_wrap=True)
    return 0


def age(seconds: float) -> str:
    """'3 min', '5 h', '12 d'."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return "now"


def choice_of(keep: Sequence[str], uses: Sequence[RunUse], found: Sequence[Entry]) -> Choice:
    """What --keep says of every step; without it, what each study's own `keep:` says. Raises UsageError."""
    if "nothing" in keep:
        if len(keep) > 1:
            raise UsageError("--keep nothing goes with no other --keep")
        return lambda entry: "remove"
    kept = {key for use in uses for key in use.kept()} if not keep else set[str]()
    names, room, now = {use.name: use for use in uses}, None, time.time()
    for rule in keep:
        name = Path(rule).name
        if rule in KEEPS:
            kept |= {key for use in uses for key in use.kept(rule)}
        elif match := _AGE.fullmatch(rule):
            since = now - float(match[1]) * _SECONDS[match[2]]
            kept |= {e.key for e in found if e.made >= since}
        elif match := _SIZE.fullmatch(rule):
            room = float(match[1]) * _BYTES[match[2]]
        elif name in names:
            kept |= names[name].kept("all")
        else:
            known = [*KEEPS, "nothing", *names]
            text = f"--keep {rule}: expected a run, an age (7d, 12h), a size (5GB)"
            raise UsageError(f"{text}, or one of {', '.join(KEEPS)}, nothing{nearest(rule, known)}")
    if room is not None:
        used = sum(e.size for e in found if e.key in kept)
        for e in sorted(found, key=lambda e: -e.made):
            if e.key not in kept and used + e.size <= room:
                kept.add(e.key)
                used += e.size
    return by_rule(uses, kept)


def _described(found: Sweep, before: int, root: Path) -> Iterable[str]:
    yield f"{root}: {fmt.memory(before)}"
    if found.empty and not found.held:
        yield "nothing to remove"
    if found.remove:
        yield f"- {_many(found.remove)} would go whole: {_labels(found.remove)}"
    if found.strip:
        yield f"- {_many(found.strip)} would lose the model: {_labels(found.strip)}"
        yield "  What is known of them stays: running their study again computes nothing; exporting one, or a new arm, "
        yield "  computes the models that it needs."
    if found.loose:
        size = sum(disk_usage(p) if p.is_dir() else p.stat().st_size for p in found.loose if p.exists())
        yield f"- {fmt.plural(len(found.loose), 'file')} of rows, logs and unfinished steps, {fmt.memory(size)}"
    if found.held:
        yield f"{_many(found.held)} would go, but a run is at work with them: they stay"
    if found.keep:
        yield f"{_many(found.keep)} stay"


def _many(steps: Sequence[Entry]) -> str:
    return f"{fmt.plural(len(steps), 'step')} ({fmt.memory(sum(e.size for e in steps))})"


def _labels(steps: Sequence[Entry]) -> str:
    return listed(dict.fromkeys(e.label or e.op for e in steps), 4)


def _facts(e: Entry) -> dict[str, object]:
    names = ("key", "op", "label", "state", "size", "made")
    return {**{name: getattr(e, name) for name in names}, "cost": dict(e.cost), "inputs": sorted(e.inputs)}


def _uses(key: str, uses: Iterable[RunUse]) -> list[dict[str, object]]:
    return [
        {"run": use.name, "arms": list(use.steps[key].arms), "seed": use.steps[key].seed}
        for use in uses
        if key in use.steps
    ]


def _for(key: str, uses: Iterable[RunUse]) -> tuple[str, str]:
    """The runs and arms of a step in words, and its seeds."""
    mine = [(use.name, use.steps[key]) for use in uses if key in use.steps]
    seeds = dict.fromkeys("all" if step.seed is None else str(step.seed) for _, step in mine)
    return "; ".join(f"{name}: {listed(step.arms, 2)}" for name, step in mine) or "no run here", ", ".join(seeds)
