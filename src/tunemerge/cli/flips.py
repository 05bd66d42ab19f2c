"""`tunemerge flips`, as a person sees it: what one arm gains and loses against another."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from tunemerge.cli.output import answer, screen
from tunemerge.report.clean import clean_text
from tunemerge.study.run_folder import read_results

_SHOWN = 10


def show_flips(run: Path, arm: str, against: str, task: str | None, out: Path | None) -> None:
    """The rows that flip in most seeds; all of them in `out`."""
    console = screen()
    results = read_results(run)
    found = results.flips(arm, against, task)
    seeds = int(found["seeds"].max()) if len(found) else 1
    for name in [t.name for t in results.tasks if t.name in set(found["task"])]:
        rows = found[found["task"] == name]
        gains, losses = rows["gained"].sum() / rows["seeds"].max(), rows["lost"].sum() / rows["seeds"].max()
        counts = f"gains {gains:.1f} and loses {losses:.1f} test rows against {against}, net {gains - losses:+.1f}"
        line = f"{name}: {arm} {counts}"
        console.print(f"{line} (a mean over {seeds} seeds)" if seeds > 1 else line, highlight=False, markup=False)
    if found.empty:
        console.print(f"{arm} and {against} answer every test row alike, right or wrong", highlight=False, markup=False)
    shown = pd.concat([found.head(_SHOWN), found.iloc[max(_SHOWN, len(found) - _SHOWN) :]])
    if len(shown):
        console.print(_table(shown, arm, against))
    if out is not None:
        found.to_csv(out, index=False)
        console.print(f"{out}: {len(found)} rows", highlight=False, markup=False, soft_wrap=True)
    elif len(shown) < len(found):
        console.print(f"{len(found) - len(shown)} more rows between these: --out FILE.csv has all", highlight=False)
    every = found.astype(object).where(found.notna(), None).to_dict("records")
    answer(arm=arm, against=against, rows=every, out=out)


def _table(rows: pd.DataFrame, arm: str, against: str) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, expand=True)
    for name, justify in (("task", "left"), ("row", "right"), ("gained", "right"), ("lost", "right")):
        table.add_column(name, justify=justify, no_wrap=True, min_width=len(name))  # type: ignore[arg-type]
    told = rows["text"].notna().any()  # not where all rows are private
    for name in ("truth", arm, against, *(["text"] if told else [])):
        last = name == "text"  # has what the others leave of the line
        kept = {"overflow": "ellipsis", "no_wrap": True, "ratio": 1} if last else {"overflow": "fold"}
        table.add_column(Text(name), min_width=24 if last else 8, **kept)
    for r in rows.to_dict("records"):
        counts = (f"{r[n]}/{r['seeds']}" if r[n] else "" for n in ("gained", "lost"))
        text = " ".join(clean_text(r["text"] or "").split())
        cells = (r["task"], str(r["row"]), *counts, r["target"], r["a"], r["b"], *([text] if told else []))
        table.add_row(*(Text(cell) for cell in cells))
    return table
