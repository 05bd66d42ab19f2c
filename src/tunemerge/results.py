"""results.json: the versioned interface for programs. The report and the model card are made from it alone.

Scores are in the metric's own unit (accuracy .871, not 87.1). Intervals are 95% unless `level` says otherwise.
A cost that nobody knows (a checkpoint made elsewhere) is null, never 0.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, PrivateAttr

from tunemerge.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

PREDICTIONS_FILE, TEXTS_FILE = "predictions.parquet", "test_rows.parquet"
FORMAT: Literal[1] = 1


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CostLine(_Model):
    """One line of the ledger; see `tunemerge.graph.cost.Cost` for units."""

    optimizer_steps: int
    examples: int
    tokens: int
    train_flops: float
    forward_examples: int
    forward_flops: float
    trials: int
    seconds: float
    peak_memory: int


class Interval(_Model):
    value: float
    low: float
    high: float


class SplitsInfo(_Model):
    """How rows were split. With `folds`, `seeds` of the results are runs: run r is fold r % folds of repetition
    r // folds, and "test" scores are on what each run held out. `overlap`: n_test / n_train of the corrected resampled
    t test. `build_digest`: SHA-256 of the file of a splitter of one's own."""

    by: Literal["label", "time", "build"]
    folds: int | None = None
    repetitions: int | None = None
    overlap: float | None = None
    column: str | None = None
    horizon: str | None = None
    embargo: str | None = None
    build: str | None = None
    build_digest: str | None = None


class TaskInfo(_Model):
    """One task. `role`: "task" (one of several), "target", "source" (only its pool model is used), "retention"
    or "unseen". `classes`: whether it predicts one of `labels`, and not values. `rows` and `units` count those of the
    first run's splits; `unit`: the column of the unit, where the study names one."""

    name: str
    role: Literal["task", "target", "source", "retention", "unseen"]
    kind: str
    classes: bool = True
    labels: list[str]
    rows: dict[str, int]
    units: dict[str, int] = {}
    unit: str | None = None
    weight: str | None = None
    data: str
    licence: str | None = None
    private: bool = False


class PoolRecord(_Model):
    """What the folder of a given checkpoint tells of how `tunemerge tune` made it. `base`: fingerprint of the model
    that it started from; `model`: digest of its weights."""

    rows: int
    seed: int
    base: str
    model: str
    cost: CostLine


class TaskScore(_Model):
    """An arm's test result on one task. `normalised`: the value over that of the task's own tuned expert, where
    there are several tasks and higher is better. `forgetting`: what was lost (positive) against the untuned model of
    the pool: the task's own, on a retention task the best."""

    score: Interval
    metrics: dict[str, float]
    normalised: float | None = None
    forgetting: float | None = None


class PortfolioResult(_Model):
    """What money did that followed an arm's predicted returns on all tasks, an equal part each, after `cost` basis
    points of what is traded (None where tasks differ). A year's figures, means over seeds; with folds those of a
    repetition are one stretch of time. `worth`: what 1 became after each of `days` (since 1970), for the first seed."""

    mean_return: float
    volatility: float
    sharpe: float
    drawdown: float
    cost: float | None
    days: list[float]
    worth: list[float]


class ArmResult(_Model):
    """One arm. `role`: "order" (compared in the verdict), "alternative" (same budget, no merge), "control".

    `chosen`: what was chosen on validation inside the arm, and how often over all seeds: {"method": {"ties": 5,
    "linear": 3}} (then `method` is None), {"learning_rate": {"0.0001": 8}}. `models_at_inference`: how many have to be
    kept. `matched`: within the budget; arms that spend more stand apart and are never handed back. `ceiling`: it pools
    the rows of private tasks, so nobody may have it; no verdict looks at it. `validation` and `test` are means over
    seeds of the mean over tasks; the lists are per seed, in the order of `seeds`. `marginal` is what the arm added to
    what existed, a mean over seeds; `total` includes making the pool (None for given checkpoints without a record: then
    at most `total_examples` is known). `steps` are the keys of all steps that make it, over all seeds; `models` those
    of the steps whose artifacts answer a task, a list a seed (several: an ensemble); `predictions` those of the steps
    that its scores are computed from, by task and split, one a seed. `form`: how its models are had where tuning trains
    adapters, and `under`: by the key of a model that is an adapter on another one, the key of
    that one. `stayed_out`: with folds, the score on test rows that stayed out of all of them. `portfolio`: where
    returns are predicted.
    """

    name: str
    strategy: str
    method: str | None
    role: Literal["order", "alternative", "control"]
    description: str
    paper: str | None
    chosen: dict[str, dict[str, int]] = {}
    deliverable: bool
    models_at_inference: int
    tuned: bool
    matched: bool
    ceiling: bool = False
    method_chosen: bool = True
    handed_back: bool = False
    validation: float
    validation_by_seed: list[float]
    test: Interval
    stayed_out: Interval | None = None
    test_by_seed: list[float]
    tasks: dict[str, TaskScore]
    worst_task: str
    marginal: CostLine
    total: CostLine | None
    total_examples: int | None = None
    steps: list[str]
    models: dict[str, list[list[str]]] = {}
    form: str = ""
    under: dict[str, str] = {}
    predictions: dict[str, dict[str, list[str]]] = {}
    portfolio: PortfolioResult | None = None

    @property
    def merges(self) -> bool:
        """Whether merging with a method is part of it."""
        return self.method is not None or "method" in self.chosen

    @property
    def simple(self) -> bool:
        """Whether it is fitted to rows without a checkpoint."""
        return not any(model for by_seed in self.models.values() for model in by_seed)


class Unavailable(_Model):
    """An arm that can't be had here, and why."""

    name: str
    reason: str


class ContrastResult(_Model):
    """Test score of a minus that of b, crossed over seeds and units, oriented so that a positive difference means that
    a is better, whatever the metric. `p_holm` is adjusted over the study's family; all else stands for the contrast
    alone, and comes from one t distribution (docs/architecture.md, Statistics)."""

    a: str
    b: str
    difference: Interval
    p: float
    p_holm: float
    degrees_of_freedom: float
    probability_a_better: float
    verdict: Literal["better", "worse", "equivalent", "inconclusive", "leads"]
    smallest_detectable: float
    seeds_to_settle: int | None


class IncumbentResult(_Model):
    """What runs today, of unknown cost, by its predictions from files. The same answers count for every seed, so its
    interval is that of the test units alone; `tasks` lack the metrics that need probabilities where there are only
    labels. `against`: the model handed back minus it, a question of its own outside the family of orders, so its
    `p_holm` is p."""

    name: str
    predictions: list[str]
    probabilities: bool
    test: Interval
    tasks: dict[str, TaskScore]
    against: ContrastResult | None


class FlipCount(_Model):
    """Test rows of a task that a gains (right where b is wrong) and loses, means over `seeds`, of `rows`."""

    gains: float
    losses: float
    rows: int


class FlipExample(_Model):
    """One test row. `row` is the number of the data row; `a`, `b` what each arm answered most often where it flips;
    `gained`, `lost`: in how many of `seeds`. No text for private tasks."""

    task: str
    row: int
    unit: str
    target: str
    a: str
    b: str
    gained: int
    lost: int
    seeds: int
    text: str | None


class FlipsResult(_Model):
    """What arm a gains and loses against arm b, and the rows that tell most: those that flip in most seeds, and among
    them with the largest difference of the target's probability."""

    a: str
    b: str
    tasks: dict[str, FlipCount]
    gained: list[FlipExample]
    lost: list[FlipExample]


class Verdict(_Model):
    """`kind`: better, equivalent, inconclusive, leads (fewer than 5 seeds: nothing is claimed), dont_merge."""

    kind: Literal["better", "equivalent", "inconclusive", "leads", "dont_merge"]
    sentence: str
    details: list[str]
    winner: str | None
    handed_back: str | None
    handed_back_seed: int | None
    handed_back_reason: str


OPENED = 1.1  # a validation loss that ends this many times its lowest: the finding "overfitting" and the curves


class CurvePoint(_Model):
    step: int
    examples: int
    train_loss: float | None
    validation_loss: float | None
    validation_score: float | None


class Trial(_Model):
    parameters: dict[str, Any]
    score: float
    chosen: bool


class TuningTrial(_Model):
    """One trial of a search over the settings of a tuning: finished, pruned or diverged. `loss` is that on validation,
    of a pruned one up to there; `examples` what it was trained on."""

    parameters: dict[str, Any]
    state: Literal["finished", "pruned", "diverged"]
    loss: float | None
    examples: int
    chosen: bool


class StepResult(_Model):
    """One step. `cached`: its cost was paid in an earlier run. `curve` for tune steps, `trials` for search steps,
    `tuning_trials` for tune steps that are searches."""

    key: str
    op: str
    label: str
    seed: int | None
    inputs: list[str]
    arms: list[str]
    cost: CostLine
    cached: bool
    digest: str
    curve: list[CurvePoint] = []
    chosen_step: int | None = None
    trials: list[Trial] = []
    tuning_trials: list[TuningTrial] = []


class FindingResult(_Model):
    code: str
    severity: Literal["error", "warning", "note"]
    message: str
    where: str = ""
    remedy: str = ""


class BudgetInfo(_Model):
    """What every tuned arm spends on adaptation, in training examples a seed; `asked` is what the study file says. It
    is spent with each of several `learning_rates`, and at most with each of the `search_trials` of every tuning:
    `spent_by_arm` counts all that was spent."""

    unit: str
    asked: float
    examples: int
    steps: int
    batch_size: int
    learning_rates: list[float] = []
    search_trials: int = 0
    spent_by_arm: dict[str, int]


class Results(_Model):
    """Everything a study found out. `pandas.DataFrame(results.table())` has a row an arm and task.

    `simple`: the model handed back minus the simple model that is best by validation, a question of its own outside
    the family of orders, so its `p_holm` is p.
    """

    format: Literal[1] = FORMAT
    name: str
    tunemerge: str
    finished: str
    versions: dict[str, str]
    machine: dict[str, str]
    setting: Literal["several tasks", "one target"]
    metric: str
    higher_is_better: bool
    margin: float
    level: float
    base: str
    base_licence: str | None
    pool: dict[str, str]
    pool_records: dict[str, PoolRecord] = {}
    tasks: list[TaskInfo]
    seeds: list[int]
    splits: SplitsInfo | None = None
    budget: BudgetInfo
    verdict: Verdict
    arms: list[ArmResult]
    unavailable: list[Unavailable]
    contrasts: list[ContrastResult]
    incumbent: IncumbentResult | None = None
    simple: ContrastResult | None = None
    flipped: list[FlipsResult] = []
    steps: list[StepResult]
    study_cost: CostLine
    failed_attempts: int
    failed_seconds: float
    test_openings: int
    findings: list[FindingResult]
    study_file: str
    _folder: Path | None = PrivateAttr(None)

    def at(self, folder: Path) -> Results:
        """The same results, which know the run's folder."""
        self._folder = folder
        return self

    def flips(self, a: str, b: str, task: str | None = None) -> pd.DataFrame:
        """Every test row that arm a answers rightly and arm b wrongly, or the other way round: `tunemerge.flips.flips`.

        Raises UsageError for an unknown arm or task, or where the run's predictions are not there.
        """
        import pandas as pd

        from tunemerge.flips import flips

        files = [self._folder / name for name in (PREDICTIONS_FILE, TEXTS_FILE)] if self._folder else []
        if not files or not all(file.exists() for file in files):
            raise UsageError(f"{self._folder or self.name}: no {PREDICTIONS_FILE} of this run; flips need its folder")
        predictions, texts = (pd.read_parquet(file) for file in files)
        return flips(predictions, self.labels, a, b, task, texts)

    @property
    def labels(self) -> dict[str, list[str]]:
        """The classes of each task's model, in the order of its outputs; tasks of values have none."""
        return {t.name: t.labels for t in self.tasks if t.classes}

    def _repr_html_(self) -> str:
        """In a notebook: the verdict and the report. (Loaded by name: this layer knows nothing of pages.)"""
        html: str = import_module("tunemerge.report.inline").render_inline(self)
        return html

    def table(self) -> list[dict[str, Any]]:
        """A flat row for every arm and task: scores, intervals, metrics, marginal cost."""
        return [
            {
                "arm": arm.name,
                "strategy": arm.strategy,
                "method": arm.method,
                "role": arm.role,
                "task": task,
                **{f"score_{k}": v for k, v in result.score.model_dump().items()},
                **result.metrics,
                "normalised": result.normalised,
                "forgetting": result.forgetting,
                "validation": arm.validation,
                **{f"cost_{k}": v for k, v in arm.marginal.model_dump().items()},
            }
            for arm in self.arms
            for task, result in arm.tasks.items()
        ]
