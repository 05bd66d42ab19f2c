"""What a study can't answer, or hardly: said before it runs."""

from __future__ import annotations

from collections.abc import Sequence

from tunemerge.findings import Finding, note, warning
from tunemerge.registry import listed
from tunemerge.stats.components import FEWEST_SEEDS
from tunemerge.stats.metrics import METRICS, Metric
from tunemerge.strategies.setting import Setting
from tunemerge.study.arm import Arm
from tunemerge.study.arms import MAIN, asked_for
from tunemerge.study.config import StudyConfig
from tunemerge.study.rows import StudyRows

# Under so many test units, one of them is more than 2 points.
_FEW_UNITS = 50
# A margin over this share of what the metric can be calls almost anything equivalent.
_WIDE_MARGIN = 0.1


def unanswered(
    config: StudyConfig, arms: Sequence[Arm], unavailable: Sequence[tuple[str, str]], setting: Setting
) -> list[Finding]:
    """A warning where orders that the study asks for are missing, so that nothing says which is better, and where the
    pool is a single model."""
    orders = [s.name for s in asked_for(config) if s.role == "order"]
    reasons = {name.split("/")[0]: why for name, why in reversed(unavailable)}
    missing = [o for o in orders if o in reasons and not any(arm.strategy.name == o for arm in arms)]
    found = []
    if len(orders) > 1 and missing and (len(orders) - len(missing) < 2 or set(missing) & set(MAIN)):
        together = {
            why: [o for o in missing if reasons[o] == why] for why in dict.fromkeys(reasons[o] for o in missing)
        }
        text = "; ".join(f"{listed(names)}: {why}" for why, names in together.items())
        found.append(
            warning("question-open", f"this study can't answer which order is better; missing are {text}", "tasks")
        )
    if len(setting.pool) == 1 and any(s.merges for s in asked_for(config)):
        (name,) = setting.pool
        text = f"the pool is one model ({name}), so merge_then_tune and merge_only merge nothing"
        fix = "give a second checkpoint" if config.pool else "give `source` rows to a second task"
        found.append(warning("pool-of-one", text, f"pool.{name}" if config.pool else "tasks", fix))
    return found


def weak_evidence(config: StudyConfig, rows: StudyRows) -> list[Finding]:
    """Few seeds, few test units, a margin that calls almost anything equivalent."""
    found = []
    seeds = len(config.seed_list)
    if seeds < FEWEST_SEEDS:
        runs = f"{seeds} fold{'s' * (seeds > 1)}" if config.folds else f"{seeds} seed{'s' * (seeds > 1)}"
        text = f"with {runs} no win is claimed, only who leads; {FEWEST_SEEDS} can settle it"
        found.append(note("few-seeds", text, "splits.folds" if config.folds else "seeds"))
    for name, task in rows.tasks.items():
        leaf = next(iter(task.parts.values())).get(config.scored if task.role in ("task", "target") else "test")
        units = rows.tables[leaf.digest]["unit"].nunique() if leaf and leaf.digest in rows.tables else _FEW_UNITS
        if units < _FEW_UNITS and task.role != "source":
            text = f"{units} test units: one of them is {100 / units:.0f}% of the score"
            found.append(warning("few-test-rows", text, f"tasks.{name}", "give more test rows"))
    if config.metric in METRICS and config.margin > _WIDE_MARGIN * _range(METRICS[config.metric]):
        size = f"{config.margin:g} is {100 * config.margin:g} points of {config.metric}"
        found.append(warning("wide-margin", f"{size}: smaller differences count as none", "margin", "0.01 is a point"))
    return found


def _range(metric: Metric) -> float:
    return metric.upper - metric.lower
