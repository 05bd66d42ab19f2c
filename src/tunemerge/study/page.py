"""docs/study.md: every key of study.yaml, made from the schema."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tunemerge.data.join import Join, JoinWindow
from tunemerge.strategies.written import WrittenStep, WrittenStrategy
from tunemerge.study.config import StudyConfig
from tunemerge.study.config_given import BuiltModel, IncumbentConfig, PoolModel
from tunemerge.study.config_splits import SplitsConfig
from tunemerge.study.config_task import TaskConfig
from tunemerge.study.config_tuning import Budget
from tunemerge.tasks.task import TASKS
from tunemerge.tune.config import AverageConfig, DistilConfig, LoraConfig, TuneConfig
from tunemerge.tune.search_config import Between, TuningSearch

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
    ("Splits", SplitsConfig, "splits"),
    *((f"A task of the kind {name}", kind.Options, "tasks.NAME") for name, kind in TASKS),
    ("A table that is joined", Join, "tasks.NAME.join[]"),
    ("Its window of time", JoinWindow, "tasks.NAME.join[].window"),
    ("A base that a function makes", BuiltModel, "base"),
    ("A model of the pool", PoolModel, "pool.NAME"),
    ("What runs today", IncumbentConfig, "incumbent"),
    ("A budget", Budget, "budget"),
    ("A strategy of your own", WrittenStrategy, "strategies[]"),
    ("A step of it", WrittenStep, "strategies[].steps.NAME"),
    ("Tuning", TuneConfig, "tuning"),
    ("A LoRA adapter", LoraConfig, "tuning.lora"),
    ("An average of weights", AverageConfig, "tuning.average"),
    ("Teachers", DistilConfig, "tuning.distil"),
    ("A search over settings", TuningSearch, "tuning_search"),
    ("A range of it", Between, "tuning_search.KEY"),
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

## Cross-validation, time and units

With `splits: {folds: 5}` a fold takes the place of a seed. Each run holds out one fold: on those rows its arms are
scored and compared; its validation, adapt and source rows are drawn from the other folds, so nothing is chosen on
what is scored. All arms run on the same folds. Every unit is held out once a repetition; `seeds: 2` repeats the whole
with other folds, where one repetition is the default. Training rows of different folds overlap, which makes s²/J too
small a variance for a mean over J runs; intervals and p values come from the corrected resampled t test, s² (1/J +
n_test/n_train) with J - 1 degrees of freedom (Nadeau and Bengio 2003), n_train being all rows that the folds leave a
run. With `test` rows beside folds, these stay out of all folds: they decide nothing, and every arm's score on them
stands beside the other. A task with `files` keeps its test and source files as they are; its adapt and validation
rows are pooled and folded.

With `by: time` rows are ordered source, adapt, validation, test, and one calendar cut holds for all tasks, so that no
model has seen another task's test period. With folds, the time before the test rows is cut into folds + 1 stretches
of equally many rows (of all tasks together): each fold is one stretch, trained on all that comes before it. A row is
left out of what lies before a cut if its date + `horizon` + `embargo` is not before it. Nothing is scaled or fitted
across a cut. A unit that is tested is dropped from all earlier rows too (with a finding that counts them).

`splits: {build: folds.py:make, folds: 5}` takes any splitter with scikit-learn's `split(X, y, groups)`:

```python
from sklearn.model_selection import StratifiedGroupKFold


def make(seed):
    return StratifiedGroupKFold(5, shuffle=True, random_state=seed)
```

Every split is a leaf of the study's graph whose key is its content: editing the splitter so that rows move runs what
reads them again, and nothing else. The digest of its file stands in results.json.

## What `check` looks for in the rows

Before anything is trained, `tunemerge check` (and `plan` and `run`) look for what would flatter the result:

- `test-seen`, `test-nearly-seen`: tested rows among rows that some task trains or chooses on in the same run, the same
  or but for case and spaces.
- `unit-both-sides`: a unit in two given files of different sides. Where the study splits, units stay whole.
- `leaky-column`: a single column that ranks the labels with an AUROC of 0.99 or more, on rows of other units. A note
  where the task does not read it.
- `id-predicts-label`: a column that numbers the rows and ranks the labels (0.75 or more).
- `model-saw-test`: tested rows that a given model was made with, by the record in its folder. An error from a fifth of
  the rows on.
- `deployment`, `unlike-deployment`: how well a simple classifier (TF-IDF and logistic regression, cross-validated)
  tells adapt rows from those of `deployment`. A warning where its AUROC is surely above 0.6, with what tells most.

Models that `tunemerge tune` or a study made carry `tunemerge_rows.json`: a hash of every row that they, and the models
that they were made of, were tuned or chosen on; merging passes it on. It shows no text, but who has a row can tell
whether it is among them, so a study with private tasks leaves it out of what it exports; delete the file where that
matters. A model from elsewhere has no record, and nothing is known of what it has seen.
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
| settings of a tuning, with `tuning_search` | its `trials` | log loss on the validation rows of that tuning |

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

`tuning_search`: the same with trials that optuna proposes (`pip install tunemerge[search]`), the first half (at most
ten) at random and the same in every arm of a seed, the others by what was seen (TPE, seeded). All trials of a tuning
are one step, which a killed run goes on with at the trial that it was in. Without `pruning` each tuned arm spends
exactly `trials` times the budget. With `pruning: asha` a trial that is not among the best third so far ends after the
first of its `tuning.evaluations` (the third, the ninth ...): it costs what it used. Then arms have the same number of
trials but may spend differently, and a finding tells what each spent. A trial that diverges counts as tried.
"""
_WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "value"}
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
