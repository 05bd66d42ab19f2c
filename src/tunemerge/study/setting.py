"""From the study file to what strategies see: located models, the pool, the rows of a seed, the budget in steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from tunemerge.checkpoint.locate import locate
from tunemerge.checkpoint.model import open_checkpoint
from tunemerge.errors import TunemergeError, UsageError
from tunemerge.findings import Finding, error, warning
from tunemerge.graph.step import Leaf, Node, Step
from tunemerge.registry import listed
from tunemerge.store.digest import digest_folder
from tunemerge.store.remember import file_digest
from tunemerge.strategies.setting import Rows, Setting
from tunemerge.study.built import Sample, built_leaf, code_option
from tunemerge.study.config import StudyConfig
from tunemerge.study.config_given import BuiltModel
from tunemerge.study.rows import StudyRows, TaskRows
from tunemerge.study.sunk import given_examples
from tunemerge.tasks.several import several
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS
from tunemerge.tune.fitting import no_probe, unfit_model
from tunemerge.tune.parts import part_findings
from tunemerge.tune.record import TuneRecord


def locate_models(config: StudyConfig, folder: Path, rows: StudyRows) -> tuple[dict[str, Leaf], list[Finding]]:
    """The study's base (under "base") and given checkpoints (under their names), and those that aren't there. `rows`
    are what made networks are tried on."""
    found: list[Finding] = []
    leaves: dict[str, Leaf] = {}
    asked = config.models
    for name, model in asked.items():
        if isinstance(model, BuiltModel):
            if len(rows.specs) > 1:
                text = "the tasks have heads of their own, and a network that a function makes has one"
                found.append(error("built-heads", text, key_of(name), "give the tasks one label set, or a study each"))
                continue
            leaf, problems = built_leaf(model, name, key_of(name), folder, _sample(rows))
            leaves |= {} if leaf is None else {name: leaf}
            found += problems
            continue
        try:
            path = locate(model, folder)
            if not path.is_dir():
                raise UsageError(f"{path}: a file; a study needs the model's folder, with config.json and tokenizer")
            leaves[name] = Leaf(digest_folder(path, digest=file_digest)[0], path, "model", name)
        except TunemergeError as e:
            found.append(error("no-such-model", str(e), key_of(name)))
    if not asked:
        found.append(error("no-model", "a study needs a `base`, or a `pool` of checkpoints", "base"))
    pool = [(name, leaves[name].digest) for name in config.pool if name in leaves]
    for number, (name, digest) in enumerate(pool):
        twin = next((other for other, known in pool[:number] if known == digest), None)
        if twin is not None:
            text = f"the same files as {key_of(twin)}: merging a model with itself changes nothing"
            found.append(warning("same-model", text, key_of(name), "give another checkpoint"))
    if isinstance(config.base, BuiltModel) and not config.base.weights and pool:
        text = "every seed draws this network anew, so it is not what the given pool was tuned from"
        found.append(error("base-drawn", text, "base", "give it the `weights` that they started from, or leave it out"))
    if "base" in config.pool:
        found.append(error("reserved-name", "a model of the pool can't be called 'base'", "pool.base"))
    return leaves, found


def _sample(rows: StudyRows) -> Sample:
    """Training rows of the first run, task by task."""
    tables = []
    for task in rows.tasks.values():
        parts = next(iter(task.parts.values()), {})
        own = [rows.tables[parts[s].digest] for s in ("source", "adapt") if s in parts and task.spec is not None]
        tables += [pd.concat(own, ignore_index=True)] if own else []
    return Sample(rows.spec, tables)


def key_of(model: str) -> str:
    """The key of the study that names a model: the base, or one of the pool."""
    return model if model == "base" else f"pool.{model}"


def check_heads(models: Mapping[str, Leaf], rows: StudyRows) -> list[Finding]:
    """Classifiers among the models whose own labels lack one of the study's; where tasks have heads of their own, one
    of those of the task that the model is called as."""
    found: list[Finding] = []
    for name, leaf in models.items() if len(rows.specs) == 1 else ():
        misfit = TASKS[rows.spec.kind].misfits(leaf.path, rows.spec)
        if misfit:
            found.append(error("model-misfit", misfit, key_of(name)))
    for name, leaf in models.items():
        own_task = rows.tasks[name].spec if name in rows.tasks else None
        spec = rows.spec if len(rows.specs) == 1 else own_task
        if spec is None or TASKS[spec.kind].prediction != "classes":
            continue
        labels = spec.labels
        try:
            config = open_checkpoint(leaf.path).config
        except TunemergeError:
            continue  # reported by the check of the files
        own = TASKS[spec.kind].own_labels(config)
        missing = [label for label in labels if own is not None and label not in own]
        if own is not None and missing:
            whose = "study" if len(rows.specs) == 1 else "task"
            text = f"its head has the labels {listed(own)}, the {whose}'s are {listed(labels)}"
            fix = "rename the data's labels with `labels:` in each task"
            found.append(error("head-labels", text, key_of(name), fix))
    return found


def unfit_models(config: StudyConfig, models: Mapping[str, Leaf], spec: Spec) -> list[Finding]:
    """Models that the tasks' kind can't use, and parts of models that tuning asks for and that aren't there."""
    kind = next((TASKS[str(t.kind)] for t in config.tasks.values() if str(t.kind) in TASKS), None)
    if kind is None:
        return []
    found = no_probe(kind, config.tuning)
    own = spec if spec.kind == kind.name else None
    for name, leaf in models.items():
        try:
            checkpoint = open_checkpoint(leaf.path)
            found += unfit_model(kind, checkpoint.config, key_of(name), own)
            head = {n for n in checkpoint.tensors if n.startswith(tuple(kind.head_names))}
            found += part_findings(config.tuning, list(checkpoint.tensors), head, key_of(name))
        except TunemergeError:
            continue  # reported by the check of the files
    return found


def make_setting(
    config: StudyConfig,
    rows: StudyRows,
    seed: int,
    base: Leaf | None,
    given: Mapping[str, Leaf],
    records: Mapping[str, TuneRecord],
) -> Setting:
    """What the strategies see of one seed. Raises BudgetError where a pool model can't be made."""
    tuning = config.tuning.params()
    models = {**given, **({"base": base} if base else {})}
    code = code_option(models)
    task = {"task": replace(rows.spec, options={**rows.spec.options, **code}).as_dict()}
    fits = tuple(_fit(rows, spec, seed) for spec in rows.specs if TASKS[spec.kind].fits)
    fitted = {"fitted": fits} if fits else {}
    heads = task if len(rows.specs) == 1 else {"task": several(rows.specs).as_dict()}

    def init(leaf: Leaf | None, name: str) -> Step | None:
        params = {**heads, "seed": seed, "dropout": tuning["dropout"]}
        return Step("init", params, {"model": (leaf,), **fitted}, f"{name}: start") if leaf else None

    start = init(base, "base")
    adapt = {n: _rows(t, seed, "adapt") for n, t in rows.tasks.items() if t.role in ("task", "target")}
    source = {
        n: _rows(t, seed, "source")
        for n, t in rows.tasks.items()
        if "source" in t.parts[seed] and t.role in ("task", "target", "source")
    }
    setting = Setting(
        seed=seed,
        base_model=start,
        pool={},
        adapt=adapt,
        source=source,
        target=config.target,
        budget=config.budget.in_steps(config.tuning.batch_size, sum(r.size for r in adapt.values())),
        batch_size=config.tuning.batch_size,
        pool_examples=0,
        task=task,
        tuning=tuning,
        metric=config.metric,
        ceilings=config.ceilings,
        specs={} if len(rows.specs) == 1 else _specs(rows, seed),
    )
    searching = config.tuning_search
    trials: dict[str, Any] = {
        "rates": tuple(config.learning_rates),
        "search": searching.params() if searching else None,
    }
    if given:
        pool: dict[str, Node] = {n: s for n, leaf in given.items() if (s := init(leaf, n)) is not None}
        known = given_examples(config, records).values()
        return replace(setting, pool=pool, source={}, pool_examples=sum(known), **trials)
    if start is None:
        return replace(setting, **trials)
    steps = {n: config.pool_budget.in_steps(setting.batch_size, r.size) for n, r in source.items()}
    pool = {n: setting.tune(start, r, steps[n], name=n) for n, r in source.items()}
    return replace(setting, pool=pool, pool_examples=sum(steps.values()) * setting.batch_size, **trials)


def _specs(rows: StudyRows, seed: int) -> dict[str, Spec]:
    """What every split of a seed is for, by the key of its leaf."""
    return {leaf.key: t.spec for t in rows.tasks.values() if t.spec for leaf in t.parts[seed].values()}


def _fit(rows: StudyRows, spec: Spec, seed: int) -> Step:
    """What is fitted before any model, to the training rows of all tasks of a head: each task's are summed up by
    themselves."""
    params = {"task": spec.as_dict()}
    parts = {
        name: [t.parts[seed][s] for s in ("source", "adapt") if s in t.parts[seed]] for name, t in rows.tasks.items()
    }
    summaries = tuple(
        Step("summarise", params, {"rows": tuple(leaves)}, f"summary: {name}")
        for name, leaves in parts.items()
        if leaves and rows.tasks[name].role in ("task", "target", "source") and rows.tasks[name].spec == spec
    )
    return Step("fit", params, {"summaries": summaries}, "fitted: to all training rows")


def _rows(task: TaskRows, seed: int, split: str) -> Rows:
    parts = task.parts[seed]
    return Rows(f"{task.name} {split}", (parts[split],), (parts["validation"],), task.sizes[split])
