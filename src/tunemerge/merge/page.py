"""The page about all merge methods, made from what the methods say of themselves."""

from __future__ import annotations

import inspect
import math
import sys
from urllib.parse import urlsplit

from tunemerge.merge import lines as schedule
from tunemerge.merge.method import METHODS, Method
from tunemerge.merge.parameters import Parameter

_INTRO = """\
# Merge methods

Made from the registry by `tunemerge list methods --markdown`. In a recipe or a study a method goes by its name; in
Python it is `tunemerge.merge("ties", [a, b], base=c, density=0.5)`. A parameter marked "each model" takes one value
for all models or one a model. "Recipe must give it" is mergekit's rule for recipes; elsewhere the default holds.
Adding a method is adding one file: see CONTRIBUTING.md.
"""
_BASE = {
    "no": "no base",
    "optional": "a base if given: task vectors are merged, not weights",
    "needed": "needs a base: task vectors are merged",
    "first": "the base is the first of the models",
}


def methods_page() -> str:
    """Markdown: a table of all methods, then each with its parameters."""
    rows = ["| method | what it does | paper | base | models |", "|---|---|---|---|---|"]
    rows += [
        f"| [{name}](#{name}) | {m.summary} | {_paper(m.paper)} | {m.base} | {_models(m)} |" for name, m in METHODS
    ]
    return "\n".join([_INTRO, *rows, "", *(_section(m) for _, m in METHODS), _lines()])


def _section(method: Method) -> str:
    module = sys.modules[method.reference.__module__]
    lines = [f"## {method.name}", "", inspect.getdoc(module) or method.summary, ""]
    facts = [_paper(method.paper), _BASE[method.base], f"models: {_models(method)}"]
    facts += ["draws random numbers, keyed by the seed"] if method.random else []
    lines += ["; ".join(facts) + ".", ""]
    if method.parameters:
        lines += ["| parameter | default | range | each model | meaning |", "|---|---|---|---|---|"]
        lines += [_row(p) for p in method.parameters]
        lines.append("")
    return "\n".join(lines)


def _lines() -> str:
    """What is no method, but goes with any that merges task vectors."""
    body = ["## lines: a schedule by depth", "", inspect.getdoc(schedule) or "", ""]
    body += ['In a recipe: `lines: {alpha: 0.3, beta: 0.7}`; in Python: `lines={"alpha": 0.3, "beta": 0.7}`.', ""]
    return "\n".join(body)


def _row(parameter: Parameter) -> str:
    default = str(parameter.default).lower() if parameter.kind == "flag" else f"{parameter.default:g}"
    text = parameter.text + (" (recipe must give it)" if parameter.required else "")
    each = "yes" if parameter.per_model else ""
    return f"| `{parameter.name}` | {default} | {_range(parameter)} | {each} | {text} |"


def _range(parameter: Parameter) -> str:
    if parameter.kind == "flag":
        return "true, false"
    low, high = parameter.low, parameter.high
    if math.isinf(low) and math.isinf(high):
        return "any" if parameter.kind == "number" else "any whole number"
    if math.isinf(high):
        return f"at least {low:g}"
    return f"at most {high:g}" if math.isinf(low) else f"{low:g} to {high:g}"


def _models(method: Method) -> str:
    low, high = method.min_models, method.max_models
    return f"{low}" if low == high else f"{low} to {high}" if high else f"{low} or more"


def _paper(paper: str) -> str:
    if paper.startswith("10."):
        return f"[doi:{paper}](https://doi.org/{paper})"
    if paper[:4].isdigit():
        return f"[arXiv:{paper}](https://arxiv.org/abs/{paper})"
    return f"[{urlsplit(paper).netloc}]({paper})" if paper else "-"
