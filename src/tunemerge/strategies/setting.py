"""What a strategy is given: the models, the rows and the budget of one seed, and the steps it can ask for.

Nothing runs while a strategy is read: every call returns a node of the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunemerge.graph.private import owners
from tunemerge.graph.step import Leaf, Node, Step
from tunemerge.stats.metrics import METRICS
from tunemerge.strategies.adapters import adapted, under_merge
from tunemerge.tasks.several import several
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS
from tunemerge.tune.config import DistilConfig


class UnavailableError(Exception):
    """This order can't be had in this study; the message says why. The plan lists it, nothing fails."""


class UnpairedError(UnavailableError):
    """A model of the pool has no task's adapt rows to be tuned on."""


class PooledError(UnavailableError):
    """A step would read the rows of several private tasks."""

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__(f"one step would read the rows of several private tasks: {', '.join(tasks)}")


class BudgetError(UnavailableError):
    """The budget is too small for this order; the plan refuses the study, since a larger one would have it."""


@dataclass(frozen=True)
class Rows:
    """Rows to tune on, with the rows that choose the checkpoint; `size` is the number of training rows."""

    name: str
    train: tuple[Leaf, ...]
    validation: tuple[Leaf, ...]
    size: int

    def __add__(self, other: Rows) -> Rows:
        return Rows(
            _together(self.name, other.name),
            self.train + other.train,
            self.validation + other.validation,
            self.size + other.size,
        )


def _together(name: str, other: str) -> str:
    """ "a adapt" and "b adapt" are "a+b adapt"; rows of another split are named apart."""
    tasks, _, split = name.rpartition(" ")
    return f"{tasks}+{other}" if split and other.endswith(f" {split}") else f"{name} + {other}"


@dataclass(frozen=True)
class Pair:
    """A model, the rows it is tuned on, and its share of a budget as a fraction."""

    model: Node
    rows: Rows
    share: float
    name: str


@dataclass(frozen=True)
class Merging:
    """A merge method inside a study, and the candidates that its coefficient is chosen from."""

    method: str
    candidates: Sequence[Mapping[str, Any]]
    average: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ensemble:
    """Mean of several models' probabilities: an honest control, not a checkpoint."""

    models: tuple[Node, ...]


@dataclass(frozen=True)
class PerTask:
    """One model a task: an honest control, not a checkpoint."""

    models: Mapping[str, Node]


@dataclass(frozen=True)
class Fitted:
    """A simple model that a kind of task brings along, fitted to rows without a checkpoint: a control. `rows` are those
    that it is fitted to, for every task the same, or each task's own by name. `ceiling`: it pools private rows."""

    control: str
    rows: Rows | Mapping[str, Rows]
    ceiling: bool = False


Answer = Node | Ensemble | PerTask | Fitted


def allot(steps: int, shares: Sequence[float]) -> list[int]:
    """Whole optimizer steps in proportion to `shares`, summing to `steps` exactly (largest remainder).

    >>> allot(10, [1, 1, 1])
    [4, 3, 3]
    """
    exact = [steps * s / sum(shares) for s in shares]
    out = [int(x) for x in exact]
    by_remainder = sorted(range(len(out)), key=lambda i: (out[i] - exact[i], i))
    for i in by_remainder[: steps - sum(out)]:
        out[i] += 1
    return out


@dataclass(frozen=True)
class Setting:
    """One seed of a study, as a strategy sees it.

    `budget` is in optimizer steps of `batch_size` examples; every tuned arm spends exactly all of it. `pool` maps a
    name to a model, `adapt` and `source` a task's name to its rows, in the study file's order. Where there is one
    `target`, `adapt` has only that task. Where there are several learning `rates`, every tuning is a trial of each;
    with a `search` (`TuningSearch.params()`) every tuning is a search over its settings.
    `merging(n)` says by which methods n models are merged (of several, one is chosen), or why they can't be.
    `ceilings`: whether steps may read the rows of several private tasks. `specs`: what the rows of a leaf are for, by
    its key, where tasks have heads of their own; else all are for `task`.
    """

    seed: int
    base_model: Node | None
    pool: Mapping[str, Node]
    adapt: Mapping[str, Rows]
    source: Mapping[str, Rows]
    target: str | None
    budget: int
    batch_size: int
    pool_examples: int
    task: Mapping[str, Any]
    tuning: Mapping[str, Any]
    metric: str
    rates: tuple[float, ...] = ()
    search: Mapping[str, Any] | None = None
    merging: Callable[[int], Sequence[Merging] | str] | None = None
    ceilings: bool = False
    specs: Mapping[str, Spec] = field(default_factory=dict)

    # What there is

    def task_of(self, rows: Sequence[Leaf]) -> Mapping[str, Any]:
        """The parameter "task" of a step that trains on these splits, or predicts them."""
        own = [self.specs[leaf.key] for leaf in rows if leaf.key in self.specs]
        if not own:
            return self.task
        heads = [spec for i, spec in enumerate(own) if spec not in own[:i]]
        spec = own[0] if len(heads) == 1 else several(heads, [heads.index(one) for one in own])
        return {"task": spec.as_dict()}

    def scoring(self, rows: Sequence[Leaf]) -> Mapping[str, Any]:
        """What predictions of these splits depend on besides models and rows."""
        length, precision = self.tuning["max_length"], self.tuning["precision"]
        passes = {**self.task_of(rows), "max_length": length, "precision": precision}
        if not TASKS[self.task["task"]["kind"]].generates:
            return passes
        return {**passes, "generate": METRICS[self.metric].generated}

    @property
    def base(self) -> Node:
        if self.base_model is None:
            raise UnavailableError("the study names no base")
        return self.base_model

    @property
    def mix(self) -> Rows:
        """The adapt rows of all tasks, one after the other (with one target: its adapt rows)."""
        first, *rest = self.adapt.values()
        return sum(rest, first)

    @property
    def everything(self) -> Rows:
        """All training rows of the seed: adapt and source of all tasks."""
        return sum(self.source.values(), self.mix)

    @property
    def each(self) -> dict[str, Rows]:
        """All training rows of the seed, by task: of a target the adapt rows, and its source rows if it has any."""
        return {n: self.source[n] + rows if n in self.source else rows for n, rows in self.adapt.items()}

    @property
    def by_head(self) -> dict[str, Rows]:
        """All training rows of the seed, by task: those of all tasks that share its head."""
        out = {}
        for name, own in self.adapt.items():
            alike = [r for r in (*self.adapt.values(), *self.source.values()) if self._head(r) == self._head(own)]
            out[name] = sum(alike[1:], alike[0])
        return out

    def _head(self, rows: Rows) -> Spec | None:
        """What the rows of one task are for; None where all are for one thing."""
        return self.specs.get(rows.train[0].key)

    @property
    def pairs(self) -> list[Pair]:
        """Each task with the pool's model of the same name (else the base); with one target, each pool model with it.

        Shares are in proportion to the joint mixture: by rows for several tasks, equal for one target.
        """
        if self.target is not None:
            (rows,) = self.adapt.values()
            models = self.pool or {"base": self.base}
            return [Pair(model, rows, 1 / len(models), name) for name, model in models.items()]
        strangers = [name for name in self.pool if name not in self.adapt]
        if strangers:
            raise UnpairedError(f"no adapt rows for the pool's {', '.join(strangers)}")
        total = self.mix.size
        return [
            Pair(self.pool.get(name) or self.base, rows, rows.size / total, name) for name, rows in self.adapt.items()
        ]

    def rows_for(self, name: str) -> Rows:
        """The adapt rows on which the pool's model `name` would be tuned alone."""
        name = self.target or name
        if name not in self.adapt:
            raise UnpairedError(f"no adapt rows for the pool's {name}")
        return self.adapt[name]

    # What can be asked for

    def tune(
        self,
        model: Node,
        rows: Rows,
        budget: int,
        *,
        head_only: bool = False,
        name: str = "",
        teachers: Sequence[Node] = (),
    ) -> Step:
        """Tune `model` on `rows` for `budget` optimizer steps; people know the result by `name`. It also learns what
        `teachers` answer on the rows.

        With several learning rates: one whole tuning with each, and the best of them on the validation part of `rows`.
        With a search: one step, which tries settings on the validation part of `rows`.
        """
        if head_only and not TASKS[self.task["task"]["kind"]].head_names:
            raise UnavailableError("a model of this kind has no head of its own, which a linear probe would train")
        if budget < 1:
            raise BudgetError(f"the budget leaves no optimizer step for {rows.name}")
        read = owners((*rows.train, *rows.validation))
        if len(read) > 1 and not self.ceilings:
            raise PooledError(read)
        name = name or "tuned " + model.name
        what = f"{model.name}, {budget} step{'s' * (budget != 1)} on {rows.name}"
        what += f", taught by {' + '.join(teacher.name for teacher in teachers)}" if teachers else ""
        inputs: dict[str, tuple[Node, ...]] = {"model": (model,), "train": rows.train, "validation": rows.validation}
        before = adapted(model)
        if before is not None and self.tuning["method"] == "lora" and not head_only:
            inputs["under"] = (before.under,)  # the same adapter learns on
        if teachers:
            inputs["teachers"] = tuple(teachers)

        def trial(rate: float, label: str) -> Step:
            tuning = {**(head_of(self.tuning) if head_only else self.tuning), "learning_rate": rate}
            tuning = with_teachers(tuning) if teachers else {k: v for k, v in tuning.items() if k != "distil"}
            task = self.task_of(rows.train)
            params = {**task, "seed": self.seed, "examples": budget * self.batch_size, "tuning": tuning}
            if self.search is not None:
                params["search"] = dict(self.search)
                label += f", best of {self.search['trials']} trials"
            return Step("tune", params, inputs, label)

        if len(self.rates) < 2:
            rate = self.rates[0] if self.rates else self.tuning["learning_rate"]
            return trial(rate, f"{name}: {what}")
        tuned = {rate: trial(rate, f"{name} at {rate:g}: {what}") for rate in self.rates}
        candidates = [{"learning_rate": rate} for rate in tuned]
        return self._best(list(tuned.values()), candidates, rows, f"{name}: {what}, best rate by validation")

    def tune_each(self, budget: int, start: Node | None = None) -> list[Step]:
        """Each pair's model, or a copy of `start` for each pair, tuned with its share of `budget`."""
        pairs = self.pairs
        steps = allot(budget, [p.share for p in pairs])
        if start is None:
            return [self.tune(p.model, p.rows, n) for p, n in zip(pairs, steps, strict=True)]
        return [
            self.tune(start, p.rows, n, name=f"merge tuned for {p.name}") for p, n in zip(pairs, steps, strict=True)
        ]

    def merge(self, models: Sequence[Node]) -> Node:
        """Merge with the arm's method, its coefficient chosen on validation; with several methods, by the one whose
        merge scores best there. One model merges to itself."""
        if not models:
            return self.base
        if len(models) == 1:
            return models[0]
        if self.merging is None:
            raise UnavailableError("the strategy merges, but is registered without merges=True")
        methods = self.merging(len(models))
        if isinstance(methods, str):
            raise UnavailableError(methods)
        merges = [self._merge(models, method) for method in methods]
        if len(merges) == 1:
            return merges[0]
        names = " + ".join(m.name for m in models)
        searches = tuple(search for merge in merges for search in merge.inputs["choice"])
        candidates = [{"method": m.method} for m in methods]
        return self._select(merges, candidates, {"searches": searches}, f"best merge: {names}, method by validation")

    def _merge(self, models: Sequence[Node], merging: Merging) -> Step:
        base = () if self.base_model is None else (self.base_model,)
        inputs: dict[str, tuple[Node, ...]] = {"models": tuple(models), "base": base}
        method = {"method": merging.method, "average": list(merging.average), "seed": self.seed}
        names = " + ".join(m.name for m in models)
        params = {**method, "candidates": [dict(c) for c in merging.candidates], "metric": self.metric}
        under = under_merge(merging.method, models, self.base_model)
        searched = inputs
        if under is not None and not TASKS[self.task["task"]["kind"]].head_names:
            searched = {**inputs, "under": (under,)}  # adapters change no head: they are tried on the one model
        return Step(
            "merge",
            {**method, "parameters": {}},
            {
                **inputs,
                "choice": (self._search(params, searched, f"{merging.method}: {names}"),),
                **({} if under is None else {"under": (under,)}),
            },
            f"{merging.method} merge: {names}",
        )

    def _search(self, params: Mapping[str, Any], inputs: Mapping[str, tuple[Node, ...]], what: str) -> Step:
        """The choice of coefficients; where the rows of private tasks would meet, from scores task by task."""
        sets = self.mix.validation
        if len(owners(sets)) < 2:
            told = {**params, **self.scoring(sets)}
            return Step("search", told, {**inputs, "validation": sets}, f"coefficients of {what}")

        def part(rows: Leaf) -> Step:
            told = {**params, **self.scoring((rows,)), "part": True}
            return Step("search", told, {**inputs, "validation": (rows,)}, f"scores on {rows.label}, {what}")

        parts = tuple(part(rows) for rows in sets)
        return Step("choose", {}, {"scores": parts}, f"coefficients of {what}")

    def select(self, models: Mapping[str, Node]) -> Node:
        """The one of `models` with the best validation score on all tasks (a pointer, not a new model)."""
        if len(models) == 1:
            return next(iter(models.values()))
        candidates = [{"model": name} for name in models]
        return self._best(list(models.values()), candidates, self.mix, "best single: by validation")

    def _best(self, models: Sequence[Node], candidates: Sequence[Mapping[str, Any]], rows: Rows, label: str) -> Step:
        """Chosen by predictions on the validation part of `rows`; of several private tasks only scores meet."""
        made = tuple(predict([m], leaf, self.scoring((leaf,)), final=False) for m in models for leaf in rows.validation)
        if len(owners(made)) < 2:
            return self._select(models, candidates, {"predictions": made}, label)
        metric = {"metric": self.metric}
        scores = tuple(Step("score", metric, {"predictions": (p,)}, f"score: {p.label}") for p in made)
        return self._select(models, candidates, {"scores": scores}, label)

    def _select(
        self,
        models: Sequence[Node],
        candidates: Sequence[Mapping[str, Any]],
        evidence: Mapping[str, tuple[Node, ...]],
        label: str,
    ) -> Step:
        name, _, what = label.partition(": ")
        params = {"candidates": [dict(c) for c in candidates], "metric": self.metric}
        choice = Step("pick", params, evidence, f"choice of {name}: {what}")
        return Step("select", {}, {"models": tuple(models), "choice": (choice,)}, label)


def predict(models: Sequence[Node], rows: Leaf, scoring: Mapping[str, Any], *, final: bool) -> Step:
    """Predictions of one model, or of an ensemble, on one split; `final` is the last evaluation on a test set."""
    params = {**scoring, "final": final}
    if "generate" in scoring:  # what is tested is scored by all metrics
        params["generate"] = scoring["generate"] or final
    who = " + ".join(m.name for m in models)
    return Step("predict", params, {"models": tuple(models), "rows": (rows,)}, f"predict {rows.label}: {who}")


def predict_fitted(
    fitted: Fitted, task: str, rows: Leaf, scoring: Mapping[str, Any], seed: int, *, final: bool
) -> Step:
    """The same of a control, which is fitted in this very step."""
    train = fitted.rows if isinstance(fitted.rows, Rows) else fitted.rows[task]
    version = TASKS[scoring["task"]["kind"]].controls[fitted.control].version
    names = {"control": fitted.control, "version": version}
    params = {"task": scoring["task"], **names, "seed": seed, "final": final}
    inputs = {"train": train.train, "rows": (rows,)}
    return Step("control", params, inputs, f"predict {rows.label}: {fitted.control}")


def with_teachers(tuning: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings with all that says how teachers are listened to."""
    return {**tuning, "distil": DistilConfig.model_validate(tuning.get("distil") or {}).model_dump(mode="json")}


def head_of(tuning: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings for a linear probe, which has no adapter."""
    return {**{key: value for key, value in tuning.items() if key != "lora"}, "method": "head"}
