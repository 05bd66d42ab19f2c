"""`tunemerge merge`, as a person sees it. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from tunemerge.cli.bar import bar, print_findings
from tunemerge.merge.engine import merge_recipe
from tunemerge.merge.recipe import load_recipe


def merge_one(path: Path, out: Path, seed: int) -> None:
    console = Console()
    recipe = load_recipe(path)
    print_findings(recipe.warnings, console)
    with bar(console, "merging") as tell:
        merge_recipe(recipe, out, seed=seed, progress=tell)
    console.print(str(out), highlight=False, soft_wrap=True)
