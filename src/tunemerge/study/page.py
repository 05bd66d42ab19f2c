"""docs/study.md: every key of study.yaml, made from the schema."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tunemerge.strategies.written import WrittenStep, WrittenStrategy
from tunemerge.study.config import Budget, PoolModel, StudyConfig, TaskConfig
from tunemerge.tune.config import TuneConfig

_INTRO = """\
# study.yaml, key by key

Made from the schema by `tunemerge schema --markdown` (`tunemerge schema` prints the JSON Schema for editors).

Paths in a study are relative to the study file. What a study makes lies in the folder where `tunemerge` is started:
finished steps in `.tunemerge/`, shared by all studies run there, and results in `runs/NAME/`. A model is a folder,
`package:NAME/PATH` (files of an installed package) or a Hub id. Any key can be given on the command line instead, over
what the file says: `tunemerge run study.yaml --set tuning.learning_rate=1e-4`. YAML is read by its 1.2 rules: `no` and
`on` are texts. What tasks share can be written once: `a: &rows {data: a.csv, label: stars}`, then
`b: {<<: *rows, data: b.csv}`.
"""
_SECTIONS: tuple[tuple[str, type[BaseModel], str], ...] = (
    ("The study", StudyConfig, ""),
    ("A task", TaskConfig, "tasks.NAME"),
    ("A model of the pool", PoolModel, "pool.NAME"),
    ("A budget", Budget, "budget"),
    ("A strategy of your own", WrittenStrategy, "strategies[]"),
    ("A step of it", WrittenStep, "strategies[].steps.NAME"),
    ("Tuning", TuneConfig, "tuning"),
)
_ROLES = """\
## Which splits a task needs

| the task | splits |
|---|---|
| one of several | `adapt`, `validation`, `test`; `source` for a model of the pool that is made here |
| the `target` | `adapt`, `validation`, `test` |
| another task beside a `target` | `source`, `validation`; none where the pool is given |
| in `retention` or `unseen` | `test` |

On `source` rows the pool is made, on `adapt` rows every arm spends its budget, on `validation` rows everything is
chosen, and `test` rows are read once, at the end.
"""
_CHOICES = """\
## What is chosen on validation

Each seed chooses for itself, on its own validation rows, and what a choice tried is charged to the arm.

| what | among | by |
|---|---|---|
| the checkpoint of a tuning | its `tuning.evaluations` | log loss (`tuning.select`) |
| the coefficients of a merge | `candidates` of its method, merged in memory | `metric`, a mean over all tasks |
| the method of a merge that is tuned, with `choose_method` | `methods` | the score of the merge with its coefficients |
| the learning rate, with `learning_rates` | a whole tuning at each | `metric` on the validation rows of that tuning |

Where several score the same, the first of them is taken; of tunings, the one with the lowest log loss.

`choose_method`: with `after_tuning`, `merge_then_tune` and every other order that tunes its merge is an arm for each
method, tuned with the whole budget, and of these arms the one with the best mean validation score stands for the
order. So k methods cost it k tunings, where `tune_then_merge` tunes once and merges k times. With `before_tuning`
choosing costs both the same, k merges: such an order is one arm, which tunes the merge that scored best, and never
learns which would have been best once tuned. `tune_then_merge` and `merge_only` end with the merge and are an arm for
each method either way. Adding a method trains nothing, except at seeds where its merge wins.

`learning_rates`: the budget is per trial. With k rates every tuned arm spends k times the budget, whatever its order: a
tuning of it that has a share of the budget is done k times with that share. Tunings that follow one another choose one
after the other: what is merged or tuned further is the chosen model of the step before. An expert of `tune_then_merge`
is chosen by its own rows, not by the merge that it becomes a part of. So an order of several tunings may take another
rate in each, and one of a single tuning can't; both pay the same for it. The pool is made at `tuning.learning_rate`.
"""
_WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false"}
_LIMITS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


def study_page() -> str:
    """Markdown: a table for the study and for each of its parts, a key a line."""
    sections = [_section(title, model, prefix) for title, model, prefix in _SECTIONS]
    return "\n".join([_INTRO, *sections, _ROLES, _CHOICES]).rstrip("\n") + "\n"


def _section(title: str, model: type[BaseModel], prefix: str) -> str:
    where = f" (`{prefix}`)" if prefix else ""
    about = " ".join((model.__doc__ or "").split())
    rows = ["| key | type | default | what it is | example |", "|---|---|---|---|---|"]
    rows += [_row(name, field) for name, field in model.model_fields.items()]
    return "\n".join([f"## {title}{where}", "", about, "", *rows, ""])


def _row(name: str, field: FieldInfo) -> str:
    default = "required" if field.is_required() else _yaml(field.get_default(call_default_factory=True))
    cells = [f"`{name}`", _type(field.annotation, field.metadata), default, field.description or ""]
    example = f"`{name}: {_flow(example_of(field))}`"
    return "| " + " | ".join([*(cell.replace("|", "\\|") for cell in cells), example]) + " |"


def example_of(field: FieldInfo) -> Any:
    """The field's example, or its default."""
    return field.examples[0] if field.examples else field.get_default(call_default_factory=True)


def _type(annotation: Any, metadata: list[Any]) -> str:
    """In words, with the limits of a number."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return _type(inner, [*metadata, *(m for x in more for m in getattr(x, "metadata", [x]))])
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [a for a in get_args(annotation) if a is not type(None)]
        return " or ".join(_type(kind, metadata) for kind in kinds)
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) is list:
        return f"list: {_type(get_args(annotation)[0], [])}"
    if get_origin(annotation) is dict:
        key, value = (_type(a, []) for a in get_args(annotation))
        return f"mapping: {key} to {value}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        title = next(title for title, model, _ in _SECTIONS if model is annotation)
        return f"[{title.lower()}](#{_anchor(title, annotation)})"
    limits = [f"{word} {getattr(m, key)}" for m in metadata for key, word in _LIMITS.items() if hasattr(m, key)]
    return " ".join([_WORDS[annotation], *[", ".join(limits)][: len(limits)]])


def _anchor(title: str, model: type[BaseModel]) -> str:
    prefix = next(prefix for _, other, prefix in _SECTIONS if other is model)
    return re.sub(r"[^a-z0-9 -]", "", f"{title} {prefix}".strip().lower()).replace(" ", "-")


def _yaml(default: Any) -> str:
    if default is None or default == {} or default == []:
        return ""
    if isinstance(default, TuneConfig):
        return "see there"
    if isinstance(default, BaseModel):
        default = default.model_dump(exclude_none=True)
    return f"`{_flow(default)}`"


def _key(key: Any) -> str:
    """Names of ours as they are: PyYAML would quote `on`, which YAML 1.1 takes for true."""
    return key if isinstance(key, str) and key.isidentifier() else _flow(key)


def _flow(value: Any) -> str:
    """YAML on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(k)}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, float):
        return f"{value:g}"
    return str(yaml.safe_dump(value, width=1000, allow_unicode=True)).removesuffix("...\n").strip()
