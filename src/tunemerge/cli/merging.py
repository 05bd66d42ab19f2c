"""`tunemerge merge` and `tunemerge check` of a recipe, as a person sees them. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tunemerge.checkpoint.dtypes import itemsize
from tunemerge.cli.bar import bar, print_findings
from tunemerge.cli.device import checked_device
from tunemerge.cli.output import answer, as_dicts, screen
from tunemerge.errors import UsageError
from tunemerge.findings import Finding, FindingsError, refuse_errors
from tunemerge.merge.recipe.documents import Reading, read_recipe
from tunemerge.merge.recipe.needs import memory_bytes
from tunemerge.merge.recipe.options import Options
from tunemerge.merge.recipe.preflight import Planned, Preflight, preflight
from tunemerge.merge.recipe.provenance import Recorded, is_merged, read_merged
from tunemerge.merge.recipe.run import merge_recipe
from tunemerge.merge.runner import output_bytes
from tunemerge.merge.target import free_bytes
from tunemerge.yamlfile import parse_documents, read_text

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTB]?)B?\Z", re.IGNORECASE)
_FACTORS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9, "T": 10**12}
_KEYS = {"merge_method", "models", "slices", "modules"}


def merge_one(
    path: Path,
    out: Path,
    *,
    seed: int | None,
    shard_size: str,
    copy_tokenizer: bool,
    device: str,
    allow_crimes: bool,
    threads: int | None,
    dry_run: bool,
) -> int:
    """Merge, or with `dry_run` show the plan; the exit code is 2 where that has errors."""
    console = screen()
    if threads is not None and threads < 1:
        raise UsageError(f"--threads {threads}: expected a positive number")
    shard_bytes, device = shard_bytes_of(shard_size), checked_device(device)
    reading, recorded = read_any(path)
    options = Options(
        seed=seed if seed is not None else recorded.seed if recorded else 0,
        threads=threads,
        shard_bytes=shard_bytes,
        copy_tokenizer=copy_tokenizer,
        allow_crimes=allow_crimes or (recorded is not None and recorded.allow_crimes),
        device=device,
    )
    if dry_run:
        look = preflight(reading, path, out, options, recorded)
        _show_plan(look, out, options, console)
        return _verdict(look.findings, path, console, plan=_documents(look))
    refuse_errors(reading.findings)
    assert reading.recipe is not None
    said: list[Finding] = []

    def tell(findings: Sequence[Finding]) -> None:
        said.extend(findings)
        print_findings(findings, console)

    with bar(console, "merging") as progress:
        merge_recipe(
            reading.recipe,
            out,
            options,
            recorded=recorded,
            progress=progress,
            tell=tell,
        )
    console.print(str(out), highlight=False, markup=False, soft_wrap=True)
    answer(out=out, findings=as_dicts(said))
    return 0


def check_recipe(path: Path) -> int:
    """Print every finding; the exit code is 2 when one is an error."""
    try:
        reading, recorded = read_any(path)
        options = Options(allow_crimes=recorded is not None and recorded.allow_crimes)
        findings: Sequence[Finding] = preflight(reading, path, None, options, recorded).findings
    except FindingsError as problem:
        findings = problem.findings
    return _verdict(findings, path, screen())


def is_recipe(path: Path) -> bool:
    """Whether a file says what to merge, rather than what to study: by its keys."""
    if is_merged(path):
        return True
    try:
        documents = [data for data, _ in parse_documents(read_text(path), str(path))]
    except FindingsError:
        return path.is_file() and re.search(rb"^merge_method\s*:", path.read_bytes(), re.MULTILINE) is not None
    return any(isinstance(data, dict) and "tasks" not in data and _KEYS & data.keys() for data in documents)


def read_any(path: Path) -> tuple[Reading, Recorded | None]:
    """A recipe's file, or the recipe that a merged model carries."""
    return read_merged(path) if is_merged(path) else (read_recipe(read_text(path), path), None)


def shard_bytes_of(size: str) -> int:
    """`5B` and `5GB` are five billion bytes, `500M` and `500MB` five hundred million."""
    found = _SIZE.match(size.strip())
    count = int(float(found.group(1)) * _FACTORS[found.group(2).upper()]) if found else 0
    if count < 1:
        raise UsageError(f"--out-shard-size {size}: expected a size such as 5B, 500M or 2GB")
    return count


def _verdict(findings: Sequence[Finding], path: Path, console: Console, **more: Any) -> int:
    print_findings(findings, console)
    answer(file=path, findings=as_dicts(findings), **more)
    errors = sum(f.severity == "error" for f in findings)
    if errors:
        console.print(f"{path}: {errors} error{'s' * (errors > 1)}", style="bold red", highlight=False, markup=False)
        return 2
    console.print(f"{path}: nothing stands in the way", style="green", highlight=False, markup=False)
    return 0


def _show_plan(look: Preflight, out: Path, options: Options, console: Console) -> None:
    """A row for each method and set of models, then what all of it takes."""
    for one in look.planned:
        title = f"{one.document.name}, kept in the store" if one is not look.planned[-1] else str(out)
        table = Table(title=Text(title), title_justify="left")
        for name, justify in (("method", "left"), ("tensors", "right"), ("bytes", "right"), ("models", "left")):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
        for (method, models), (tensors, size) in _groups(one).items():
            table.add_row(method, f"{tensors:,}", f"{size:,}", Text(models))
        console.print(table)
    if look.planned:
        last = look.planned[-1].plan
        size, (folder, free) = output_bytes(last), free_bytes(out)
        memory = max(memory_bytes(one.plan, options) for one in look.planned)
        console.print(
            f"{len(last.tensors):,} tensors, {size / 1e9:.3f} GB; {free / 1e9:.1f} GB are free in {folder}; "
            f"buffers of {memory / 1e6:.0f} MB",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def _documents(look: Preflight) -> list[dict[str, Any]]:
    return [
        {
            "name": one.document.name,
            "bytes": output_bytes(one.plan),
            "rows": [
                {"method": method, "models": models, "tensors": tensors, "bytes": size}
                for (method, models), (tensors, size) in _groups(one).items()
            ],
        }
        for one in look.planned
    ]


def _groups(one: Planned) -> dict[tuple[str, str], tuple[int, int]]:
    """(method, models) to (tensors, bytes)."""
    out: dict[tuple[str, str], tuple[int, int]] = {}
    for tensor in one.plan.tensors:
        models = ", ".join(one.names[i.model] for i in tensor.inputs)
        if tensor.base is not None:
            models += f"; base {one.names[tensor.base.model]}"
        key = ("copy" if tensor.copy else tensor.method.name, models)
        tensors, size = out.get(key, (0, 0))
        out[key] = (tensors + 1, size + tensor.size * itemsize(tensor.out_dtype))
    return out
