"""results.json: the versioned interface for programs. The report and the model card are made from it alone.

Scores are in the metric's own unit (accuracy .871, not 87.1). Intervals are 95% unless `level` says otherwise.
A cost that nobody knows (a checkpoint made elsewhere) is null, never 0.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

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
    or "unseen". `rows` and `units` count those of the first run's splits; `unit`: the column of the unit, where the
    study names one."""

    name: str
    role: Literal["task", "target", "source", "retention", "unseen"]
    kind: str
    labels: list[str]
    rows: dict[str, int]
    units: dict[str, int] = {}
    unit: str | None = None
    weight: str | None = None
    data: str
    licence: str | None = None
    private: bool = False


class TaskScore(_Model):
    """An arm's test result on one task. `normalised`: the value over that of the task's own tuned expert, where
    there are several tasks. `forgetting`: what was lost (positive) against the untuned model of the pool: the task's
    own, on a retention task the best."""

    score: Interval
    metrics: dict[str, float]
    normalised: float | None = None
    forgetting: float | None = None


class ArmResult(_Model):
    """One arm. `role`: "order" (compared in the verdict), "alternative" (same budget, no merge), "control".

    `chosen`: what was chosen on validation inside the arm, and how often over all seeds: {"method": {"ties": 5,
    "linear": 3}} (then `method` is None), {"learning_rate": {"0.0001": 8}}. `models_at_inference`: how many have to be
    kept. `matched`: within the budget; arms that spend more stand apart and are never handed back. `ceiling`: it pools
    the rows of private tasks, so nobody may have it; no verdict looks at it. `validation` and `test` are means over
    seeds of the mean over tasks; the lists are per seed, in the order of `seeds`. `marginal` is what the arm added to
    what existed, a mean over seeds; `total` includes
    making the pool (None for given checkpoints, of whose cost at most `total_examples` is known). `steps` are the keys
    of all its steps over all seeds; `models` the keys of the steps whose artifacts answer a task, a list a seed
    (several: an ensemble). `stayed_out`: with folds, the score on test rows that stayed out of all of them.
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

    @property
    def merges(self) -> bool:
        """Whether merging with a method is part of it."""
        return self.method is not None or "method" in self.chosen


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


class Verdict(_Model):
    """`kind`: better, equivalent, inconclusive, leads (fewer than 5 seeds: nothing is claimed), dont_merge."""

    kind: Literal["better", "equivalent", "inconclusive", "leads", "dont_merge"]
    sentence: str
    details: list[str]
    winner: str | None
    handed_back: str | None
    handed_back_seed: int | None
    handed_back_reason: str


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


class StepResult(_Model):
    """One step. `cached`: its cost was paid in an earlier run. `curve` for tune steps, `trials` for search steps."""

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


class FindingResult(_Model):
    code: str
    severity: Literal["error", "warning", "note"]
    message: str
    where: str = ""
    remedy: str = ""


class BudgetInfo(_Model):
    """What every tuned arm spends on adaptation, in training examples a seed; `asked` is what the study file says. It
    is spent with each of several `learning_rates`: `spent_by_arm` counts all of these trials."""

    unit: str
    asked: float
    examples: int
    steps: int
    batch_size: int
    learning_rates: list[float] = []
    spent_by_arm: dict[str, int]


class Results(_Model):
    """Everything a study found out. `pandas.DataFrame(results.table())` has a row an arm and task."""

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
    tasks: list[TaskInfo]
    seeds: list[int]
    splits: SplitsInfo | None = None
    budget: BudgetInfo
    verdict: Verdict
    arms: list[ArmResult]
    unavailable: list[Unavailable]
    contrasts: list[ContrastResult]
    steps: list[StepResult]
    study_cost: CostLine
    failed_attempts: int
    failed_seconds: float
    test_openings: int
    findings: list[FindingResult]
    study_file: str

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
