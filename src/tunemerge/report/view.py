"""What the page, the summary and the terminal all say about the results: order of arms, marks, notes, findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from tunemerge.report import format as fmt
from tunemerge.report.curves import seedless
from tunemerge.results import (
    ArmResult,
    ContrastResult,
    FindingResult,
    Results,
    StepResult,
    TaskInfo,
    Trial,
    TuningTrial,
)

ROLES = {"order": "Orders of merging and tuning", "alternative": "Same budget, no merge", "control": "Controls"}
KINDS = {
    "better": "Settled", "equivalent": "Equivalent", "inconclusive": "Inconclusive", "leads": "Leads, not settled",
    "dont_merge": "Don't merge",
}  # fmt: skip
_SEVERITY = {"error": 0, "warning": 1, "note": 2}


def ordered(results: Results) -> Results:
    """The same results, arms sorted for reading: orders, alternatives, controls; best test score first in each."""
    sign = -1 if results.higher_is_better else 1
    rank = list(ROLES)
    arms = sorted(results.arms, key=lambda a: (rank.index(a.role), sign * a.test.value))
    return results.model_copy(update={"arms": arms})


CEILING_WORDS = (
    "An unattainable ceiling pools the rows of private tasks: it shows what pooling gives, and no verdict looks at it."
)


def has_ceilings(results: Results) -> bool:
    """Whether arms ran that nobody may have."""
    return any(arm.ceiling for arm in results.arms)


def groups(results: Results) -> list[tuple[str, str, list[ArmResult]]]:
    """(role, heading, arms) of every role that has arms."""
    found = [(role, title, [a for a in results.arms if a.role == role]) for role, title in ROLES.items()]
    return [group for group in found if group[2]]


def marks(arm: ArmResult) -> list[str]:
    """Short words beside an arm's name."""
    found = []
    if arm.handed_back:
        found.append("★ handed back")
    if arm.ceiling:
        found.append("unattainable ceiling")
    if arm.simple and arm.role == "control":
        return [*found, "a simple model, no checkpoint"]
    if not arm.deliverable:
        found.append(f"not a deliverable: {fmt.plural(arm.models_at_inference, 'model')} at inference")
    if not arm.matched:
        found.append("spends more: stands apart")
    if not arm.tuned:
        found.append("untuned")
    if arm.role == "order" and not arm.method_chosen and not arm.ceiling:
        found.append("method not chosen on validation")
    return [*found, *([arm.form] if arm.form else []), *choices(arm)]


def choices(arm: ArmResult) -> list[str]:
    """What was chosen inside the arm, and how often: "method ties 5x, linear 3x"."""
    found = []
    for what, counts in arm.chosen.items():
        often = sorted(((n, value) for value, n in counts.items() if n), key=lambda c: -c[0])
        found.append(f"{_words(what)} " + ", ".join(f"{value} {n}×" for n, value in often))
    return found


def chosen_here(results: Results, arm: ArmResult, seed: int | None) -> list[str]:
    """What was chosen in making the arm's model of one seed, choice by choice."""
    keys = set(arm.steps)
    steps = [s for s in results.steps if s.op == "pick" and s.key in keys and s.seed in (None, seed)]
    trials: list[tuple[StepResult, Trial | TuningTrial]] = [(s, t) for s in steps for t in s.trials if t.chosen]
    searched = [s for s in results.steps if s.key in keys and s.seed in (None, seed)]
    trials += [(s, t) for s in searched for t in s.tuning_trials if t.chosen]
    return [f"{fmt.parameters(t.parameters)} ({s.label.partition(': ')[2]})" for s, t in trials]


def chose(results: Results, what: str) -> bool:
    """Whether some arm chose this (method, learning_rate) inside it."""
    return any(what in arm.chosen for arm in results.arms)


def _words(name: str) -> str:
    return name.replace("_", " ")


def run_word(results: Results) -> str:
    """What a run is: a seed, or a fold."""
    return "fold" if folded(results) else "seed"


def run_name(results: Results, run: int | None) -> str:
    """ "seed 3", "fold 4 of 5", or "fold 4 of 5, repetition 2"; nothing for no run. `run` is a number of `seeds`."""
    if run is None:
        return ""
    splits = results.splits
    if splits is None or not splits.folds:
        return f"seed {run}"
    again = f", repetition {run // splits.folds}" if (splits.repetitions or 1) > 1 else ""
    return f"fold {run % splits.folds + 1} of {splits.folds}{again}"


def counted(results: Results) -> str:
    """ "5 seeds", or "5 folds", or "5 folds × 2 repetitions"."""
    splits = results.splits
    if splits is None or not splits.folds:
        return fmt.plural(len(results.seeds), "seed")
    again = f" × {splits.repetitions} repetitions" if (splits.repetitions or 1) > 1 else ""
    return fmt.plural(splits.folds, "fold") + again


def split_words(results: Results) -> str:
    """How the rows were split, where the study says; empty where by seed alone."""
    splits = results.splits
    if splits is None:
        return ""
    how = {"label": "stratified by label", "time": f"by time ({splits.column})", "build": f"by {splits.build}"}[
        splits.by
    ]
    gaps = [f"{name} {value}" for name in ("horizon", "embargo") if (value := getattr(splits, name))]
    folds = f"{counted(results)}, " if splits.folds else ""
    overlap = f"; n_test/n_train {splits.overlap:.2f}" if splits.overlap is not None else ""
    return folds + ", ".join([how, *gaps]) + overlap


def beside(results: Results) -> list[tuple[str, ContrastResult]]:
    """The contrasts of the arm handed back that are questions of their own, each with its heading."""
    today = results.incumbent.against if results.incumbent else None
    asked = [("Against what runs today", today), ("Against the best simple model by validation", results.simple)]
    return [(f"{what}, a question of its own beside the family: p is not adjusted", c) for what, c in asked if c]


def standing(row: ContrastResult) -> str:
    """A contrast's verdict in words that name the arm."""
    return {
        "better": f"{row.a} is better",
        "worse": f"{row.b} is better",
        "equivalent": "equivalent within the margin",
        "inconclusive": "inconclusive",
        "leads": "leads, not settled",
    }[row.verdict]


def to_settle(row: ContrastResult) -> str:
    """Seeds that would settle an open contrast; nothing for one that is settled, or open for Holm's sake alone."""
    undecided = row.verdict == "inconclusive" and row.difference.low <= 0 <= row.difference.high
    ask = (undecided or row.verdict == "leads") and row.seeds_to_settle is not None
    return f"about {row.seeds_to_settle}" if ask else fmt.NONE


def portfolio_words(results: Results) -> str:
    """What the figures of portfolios mean."""
    cost = next(a.portfolio.cost for a in results.arms if a.portfolio)
    paid = f"{cost:g} basis points" if cost is not None else "each task's cost"
    return (
        "Money that follows the predicted returns, long and short, an equal part in every task: after "
        f"{paid} of all that is traded, without a riskless rate. The lines are those of the first "
        f"{'repetition of the folds' if folded(results) else 'seed'}; the verdict is about the study's metric alone."
    )


def has(results: Results, field: str) -> bool:
    """Whether any arm has this figure (normalised, forgetting) on any task."""
    return any(getattr(score, field) is not None for arm in results.arms for score in arm.tasks.values())


TIME_WORDS = (
    "Time is that of the steps on this machine, beside whatever else ran: arms are compared by examples and compute."
)
FOLD_WORDS = (
    "Test scores are those on what each run held out. Training rows of different folds overlap, so intervals and p "
    "values come from the corrected resampled t test (Nadeau and Bengio 2003), not from the spread over runs alone."
)
STAYED_OUT = "On the test rows that stayed out of all folds"


def contrast_words(results: Results) -> str:
    """What the columns of the contrasts mean."""
    what, rows = ("Repetitions", "more rows") if folded(results) else ("Seeds", "more test rows")
    return (
        "Detectable: the true difference that a study like this one finds in 4 of 5 cases, at 5% before Holm. "
        f"{what} to settle: how many would move the interval off 0, were difference and spread to stay; nothing where "
        f"it is settled, or only {rows} would."
    )


def folded(results: Results) -> bool:
    """Whether the runs are folds."""
    return bool(results.splits and results.splits.folds)


def stayed_out(results: Results) -> bool:
    """Whether there are test rows beside the folds."""
    return any(arm.stayed_out for arm in results.arms)


def rows_of(task: TaskInfo) -> list[str]:
    """ "600 test", or "600 test (40 patient units)", for every split of the first run."""
    unit = f" ({{}} units of {task.unit})" if task.unit else ""
    return [f"{n:,} {split}{unit.format(f'{task.units.get(split, 0):,}')}" for split, n in task.rows.items()]


def notes(results: Results) -> list[str]:
    """What a reader must know beside the verdict, and the verdict does not say.

    A verdict that claims nothing needs no warning that it is exploratory: the findings and the ledger say it.
    """
    if results.test_openings <= 1 or results.verdict.kind in ("inconclusive", "leads"):
        return []
    return [
        f"Other studies here had these test rows before (this is opening {results.test_openings}), so what is claimed "
        "is exploratory: confirm it on rows that no study has opened."
    ]


def findings(results: Results) -> list[FindingResult]:
    """The study's findings, gravest first; arms that are listed as unavailable anyway are left out."""
    told = {u.name for u in results.unavailable}
    found = [f for f in results.findings if f.code != "arm-unavailable" or f.where not in told]
    return sorted(found, key=lambda f: _SEVERITY[f.severity])


def other_metrics(results: Results) -> list[str]:
    """Names of the metrics recorded beside the study's own, in the order they were recorded."""
    found = (name for arm in results.arms for task in arm.tasks.values() for name in task.metrics)
    return [name for name in dict.fromkeys(found) if name != results.metric]


def baseline(results: Results) -> str:
    """One line that says what was compared on what."""
    tasks = fmt.plural(sum(t.role in {"task", "target"} for t in results.tasks), "task")
    what = tasks if results.setting == "several tasks" else "one target"
    return (
        f"{fmt.plural(len(results.arms), 'arm')} × {counted(results)}, {what}, "
        f"{fmt.count(results.budget.examples)} training examples an arm and {run_word(results)}{times(results)}"
    )


def times(results: Results) -> str:
    """How often the budget was spent, where several learning rates or settings were tried."""
    if results.budget.search_trials:
        return f", × up to {results.budget.search_trials} trials of settings"
    tried = len(results.budget.learning_rates)
    return f", × {tried} learning-rate trials" if tried > 1 else ""


def scored_by(arm: ArmResult) -> list[str]:
    """The keys of the steps whose predictions the arm's scores are computed from."""
    return list(dict.fromkeys(k for by_split in arm.predictions.values() for keys in by_split.values() for k in keys))


def final_steps(results: Results, arm: ArmResult, seed: int | None) -> list[StepResult]:
    """The steps that made the arm's model for a seed: those that no other step of the arm but a prediction reads."""
    keys = set(arm.steps)
    models = [s for s in results.steps if s.key in keys and s.op in {"init", "tune", "merge", "select"}]
    own = [s for s in models if s.seed in {None, seed}]
    read = {k for s in results.steps if s.key in keys and s.op != "predict" for k in s.inputs}
    return [s for s in own if s.key not in read]


@dataclass(frozen=True)
class Candidate:
    """One candidate of a coefficient search over all seeds."""

    parameters: str
    score: float
    chosen: int
    of: int


@dataclass(frozen=True)
class Search:
    label: str
    arms: tuple[str, ...]
    keys: tuple[str, ...]
    candidates: tuple[Candidate, ...]


def searches(results: Results) -> list[Search]:
    """Search steps grouped over seeds; candidates in the order they were tried."""
    found: dict[tuple[str, tuple[str, ...]], list[StepResult]] = {}
    for step in results.steps:
        if any(trial.chosen for trial in step.trials):  # none in the scores of one private task
            found.setdefault((seedless(step.label), tuple(step.arms)), []).append(step)
    return [
        Search(label, arms, tuple(s.key for s in steps), _candidates(steps)) for (label, arms), steps in found.items()
    ]


def _candidates(steps: Sequence[StepResult]) -> tuple[Candidate, ...]:
    tried: dict[str, list[tuple[float, bool]]] = {}
    for step in steps:
        for trial in step.trials:
            tried.setdefault(fmt.parameters(trial.parameters), []).append((trial.score, trial.chosen))
    return tuple(
        Candidate(shown, mean(s for s, _ in scores), sum(c for _, c in scores), len(scores))
        for shown, scores in tried.items()
    )


def outputs(results: Results) -> dict[str, list[str]]:
    """What the models predict for each task that they are trained on."""
    return {t.name: t.labels for t in results.tasks if t.role in ("task", "target", "source")}


def heads(results: Results) -> int:
    """How many heads the models have: tasks of one kind with the same labels share one."""
    return len({(t.kind, *t.labels) for t in results.tasks if t.name in outputs(results)})
