"""The pages that are made from the code: `make pages` writes them, tests/test_pages.py holds them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

import tunemerge
from tunemerge import merge, tune
from tunemerge.cli.app import app
from tunemerge.merge.page import methods_page
from tunemerge.stats.metrics import METRICS
from tunemerge.strategies.strategy import STRATEGIES, Strategy
from tunemerge.study.page import study_page
from tunemerge.tasks.task import TASKS

HERE = Path(__file__).parent
_ROLES = {
    "order": "Orders of merging and tuning: compared with each other in the verdict",
    "alternative": "The same budget without a merge",
    "control": "Controls: without them a comparison says little",
}
_SPENDS = {"budget": "the budget", "nothing": "nothing", "more": "more than the budget: stands apart"}
_TYPES = {"str": "TEXT", "int": "NUMBER", "float": "NUMBER"}
_PREDICTIONS = {
    "classes": "of classes", "value": "of values", "likelihood": "of texts", "completion": "of answers",
    "harness": "of documents",
}  # fmt: skip


def commands_page() -> str:
    """Every command with its arguments and options, as `--help` has them."""
    root = typer.main.get_command(app)
    parts = [_head("Commands", "the command line", "`--json` is described in [JSON](json.md).")]
    for name, command in _commands(root, "tunemerge"):
        parts.append(f"## {name}\n\n{_text(command.help)}\n\n{_parameters(command)}")
    return "\n".join(parts).rstrip() + "\n"


def _commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    context = typer.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if hasattr(command, "list_commands"):
            yield from _commands(command, f"{path} {name}")
        elif not command.hidden:
            yield f"{path} {name}", command


def _parameters(command: Any) -> str:
    rows = []
    for p in command.params:
        if getattr(p, "hidden", False) or p.name == "help":
            continue
        option = p.opts[0].startswith("-")
        kind = p.type_descriptor.annotation.__name__
        shown = p.metavar or ("" if not option or kind == "bool" else _TYPES.get(kind, kind.upper()))
        name = " ".join([", ".join([*p.opts, *p.secondary_opts]), shown]).strip() if option else shown or p.name.upper()
        known = option and p.default not in (None, False, [], ()) and kind != "bool"
        rows.append(f"| `{_cell(name)}` | {_cell(p.help)} | {f'`{p.default}`' if known else ''} |")
    if not rows:
        return ""
    return "\n".join(["| | | default |", "|---|---|---|", *rows, ""])


def strategies_page() -> str:
    """Every strategy: what it does, and the source that defines it."""
    parts = [
        _head("Strategies", "the registry", "A strategy turns what one seed of a study has into a graph of steps.")
    ]
    for role, title in _ROLES.items():
        parts.append(f"## {title}\n")
        for _, strategy in STRATEGIES:
            if strategy.role == role:
                parts.append(_strategy(strategy))
    return "\n".join(parts).rstrip() + "\n"


def _strategy(strategy: Strategy) -> str:
    paper = f" ([arXiv:{strategy.paper}](https://arxiv.org/abs/{strategy.paper}))" if strategy.paper else ""
    arms = "one a merge method" if strategy.merges else "one a model of the pool" if strategy.each_of_pool else "one"
    code = re.sub(r"^@strategy\(.*?\)\n(?=def)", "", inspect.getsource(strategy.build), flags=re.S)
    code = re.sub(r'^    """.*?"""\n', "", code, count=1, flags=re.S | re.M)
    said = f"{_text(strategy.build.__doc__)}{paper} Arms: {arms}. Spends {_SPENDS[strategy.spends]}."
    return f"### {strategy.name}\n\n{said}\n\n```python\n{code.rstrip()}\n```\n"


def metrics_page() -> str:
    """Every metric: what it scores, its range, which way is better."""
    lines = [_head("Metrics", "the registry", "The study's `metric` decides; all that fit the kind are reported.")]
    lines += ["| metric | scores predictions | better | range | unit |", "|---|---|---|---|---|"]
    for name, m in METRICS:
        better = "higher" if m.higher_is_better else "lower"
        unit = "that of the data: needs `margin`" if m.has_unit else ""
        scored = _PREDICTIONS.get(m.prediction, m.prediction)
        lines.append(f"| `{name}` | {scored} | {better} | {m.lower:g} to {m.upper:g} | {unit} |")
    return "\n".join(lines) + "\n"


def kinds_page() -> str:
    """Every kind of task: what it reads and predicts, and the controls that it brings."""
    parts = [_head("Kinds of tasks", "the registry", "The keys of each are in [the study file](study.md).")]
    for name, kind in TASKS:
        known = [f"`{n}`" for n, m in METRICS if m.prediction == kind.prediction]
        parts.append(f"## {name}\n\n{_text(kind.__doc__)}\n\n- predicts {kind.prediction}; metrics: {', '.join(known)}")
        parts += [
            f"- control `{control}`{f', with the package {c.package}' if c.package else ''}: {c.description}"
            for control, c in kind.controls.items()
        ]
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def python_page() -> str:
    """The public names: signature and docstring."""
    parts = [
        _head("Python", "docstrings", "Names load when they are first used, so `import tunemerge` takes milliseconds.")
    ]
    parts.append(_member("tunemerge.Study", tunemerge.Study, ("from_yaml", "check", "plan", "run")))
    parts.append(_member("tunemerge.Results", tunemerge.Results, ("table", "flips")))
    for name, function in (
        ("merge", merge),
        ("tune", tune),
        ("evaluate", tunemerge.evaluate),
        ("predict", tunemerge.predict),
        ("find_learning_rate", tunemerge.find_learning_rate),
    ):
        parts.append(_function(f"tunemerge.{name}", function, "##"))
    return "\n".join(parts).rstrip() + "\n"


def _head(title: str, source: str, said: str) -> str:
    return f"# {title}\n\nMade from {source} by `make pages`. {said}\n"


def _member(title: str, cls: Any, methods: tuple[str, ...]) -> str:
    parts = [f"## {title}\n\n{_doc(cls)}\n"]
    parts += [_function(f"{cls.__name__}.{m}", getattr(cls, m), "###") for m in methods if hasattr(cls, m)]
    return "\n".join(parts)


def _function(name: str, function: Any, level: str) -> str:
    signature = re.sub(r"<[^ ]+ .*? at 0x[0-9a-f]+>", "...", str(inspect.signature(function))).replace("'", "")
    call = f"{name}{signature}".replace("(self, ", "(").replace("(self)", "()")
    target = function.__call__ if inspect.ismodule(function) else function
    return f"{level} {name}\n\n```text\n{_wrapped(call)}\n```\n\n{_doc(_underlying(name, target))}\n"


def _underlying(name: str, function: Any) -> Any:
    """The packages `merge`, `tune` and `evaluate` can be called: what they call has the docstring."""
    from tunemerge.evaluate.single import evaluate
    from tunemerge.merge.memory import merge
    from tunemerge.tune.single import tune

    return {"tunemerge.merge": merge, "tunemerge.tune": tune, "tunemerge.evaluate": evaluate}.get(name, function)


def _wrapped(call: str) -> str:
    if len(call) <= 100:
        return call
    head, inside, tail = re.match(r"^([^(]*\()(.*)(\) -> .*|\))$", call, re.S).groups()  # type: ignore[union-attr]
    arguments, depth, start = [], 0, 0
    for i, c in enumerate(inside):
        depth += (c in "[(") - (c in ")]")
        if c == "," and not depth:
            arguments.append(inside[start:i].strip())
            start = i + 1
    return "\n".join([head, *(f"    {a}," for a in [*arguments, inside[start:].strip()]), tail])


def _doc(thing: Any) -> str:
    """A docstring as Markdown: examples are code."""
    examples = r"((?:^>>> .*\n?(?:^(?!>>>).+\n?)*)+)"
    return re.sub(examples, r"```python\n\1```\n", inspect.getdoc(thing) or "", flags=re.M)


def _text(text: str | None) -> str:
    return inspect.cleandoc(text or "")


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


PAGES: dict[str, Callable[[], str]] = {
    "study.md": study_page,
    "methods.md": lambda: methods_page() + "\n",
    "commands.md": commands_page,
    "strategies.md": strategies_page,
    "metrics.md": metrics_page,
    "kinds.md": kinds_page,
    "python.md": python_page,
}


if __name__ == "__main__":
    for file, page in PAGES.items():
        (HERE / file).write_text(page(), encoding="utf-8")
