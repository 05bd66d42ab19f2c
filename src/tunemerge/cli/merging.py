"""`tunemerge merge`, as a person sees it. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from tunemerge.cli.bar import bar, print_findings
from tunemerge.merge.recipe.documents import load_recipe
from tunemerge.merge.recipe.provenance import is_merged, load_merged
from tunemerge.merge.recipe.run import merge_recipe
from tunemerge.merge.recipe.write import Options


def merge_one(path: Path, out: Path, seed: int) -> None:
    console = Console()
    recipe, recorded = load_merged(path) if is_merged(path) else (load_recipe(path), None)
    with bar(console, "merging") as progress:
        merge_recipe(
            recipe,
            out,
            Options(seed=seed),
            recorded=recorded,
            progress=progress,
            tell=lambda findings: print_findings(findings, console),
        )
    console.print(str(out), highlight=False, soft_wrap=True)
