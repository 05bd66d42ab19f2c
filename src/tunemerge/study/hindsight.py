"""What only a finished run shows of itself: tunings that went too far, pool models that learned nothing, grids that
ended too early, simple models that do better."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tunemerge.findings import Finding, note, warning
from tunemerge.registry import listed
from tunemerge.report import format as fmt
from tunemerge.results import OPENED, ArmResult, StepResult


def overfitting(steps: Iterable[StepResult]) -> list[Finding]:
    """Tunings in which the validation loss ended well above its lowest while the training loss went on falling."""
    every = list(steps)
    given_up = _given_up(every)
    opened: dict[str, list[StepResult]] = {}
    for step in (s for s in every if s.key not in given_up):
        points = [p for p in step.curve if p.validation_loss is not None]
        if not points:
            continue
        lowest = min(points, key=lambda p: p.validation_loss or 0.0)
        last = points[-1]
        falls = None not in (last.train_loss, lowest.train_loss) and last.train_loss <= lowest.train_loss  # type: ignore[operator]
        if falls and (last.validation_loss or 0.0) > OPENED * (lowest.validation_loss or 0.0):
            opened.setdefault(step.label, []).append(step)
    return [
        warning(
            "overfitting",
            f"in {len(found)} of its tunings the validation loss ended {100 * (OPENED - 1):.0f}% or more above its "
            "lowest while the training loss went on falling",
            label,
            "a smaller budget or learning rate, more adapt rows, or more dropout",
        )
        for label, found in opened.items()
    ]


def _given_up(steps: Iterable[StepResult]) -> set[str]:
    """Tunings at a learning rate that was not chosen."""
    found = {s.key: s for s in steps}
    out: set[str] = set()
    for step in (s for s in found.values() if s.op == "select"):
        choice, *models = step.inputs
        trials = found[choice].trials
        out |= {m for m, t in zip(models, trials, strict=True) if "learning_rate" in t.parameters and not t.chosen}
    return out


def rates_at_edge(arms: Iterable[ArmResult], rates: Sequence[float]) -> list[Finding]:
    """Where most tunings of an arm took the smallest, or the largest, of several rates: a better may lie beyond."""
    if len(rates) < 2:
        return []
    found = []
    for edge, word, further in ((min(rates), "smallest", "smaller"), (max(rates), "largest", "larger")):
        there = []
        for arm in arms:
            counts = arm.chosen.get("learning_rate", {})
            here, every = counts.get(f"{edge:g}", 0), sum(counts.values())
            if 2 * here > every:
                there.append(f"{arm.name} ({here} of {every} tunings)")
        if there:
            text = f"the best learning rate is the {word} tried ({edge:g}) for {listed(there)}"
            found.append(warning("rate-at-edge", text, "learning_rates", f"try a {further} one too"))
    return found


def pruned_trials(arms: Iterable[ArmResult], steps: Iterable[StepResult]) -> list[Finding]:
    """What every arm's search spent, where trials ended early or diverged: no longer exactly the same."""
    every = {s.key: s for s in steps if s.tuning_trials}
    told = []
    for arm in arms:
        trials = [t for key in dict.fromkeys(arm.steps) if key in every for t in every[key].tuning_trials]
        ended = sum(t.state != "finished" for t in trials)
        if trials:
            spent = fmt.count(arm.marginal.examples)
            told.append((ended, f"{arm.name} {spent} examples a seed ({ended} of {len(trials)} trials ended early)"))
    if not any(ended for ended, _ in told):
        return []
    text = f"trials that ended early cost what they used, so arms spent: {listed((t for _, t in told), len(told))}"
    return [note("trials-pruned", text, "tuning_search")]


def control_ahead(arms: Iterable[ArmResult], handed_back: str | None, metric: str, sign: float) -> list[Finding]:
    """Simple models without a checkpoint that score better on validation than the model that is handed back. `sign`
    makes higher better."""
    every = {arm.name: arm for arm in arms}
    handed = every.get(handed_back or "")
    if handed is None:
        return []
    ahead = [a for a in every.values() if a.simple and sign * a.validation > sign * handed.validation]
    told = listed(f"{arm.name} ({fmt.score(arm.validation, metric)})" for arm in ahead)
    own = f"{handed.name} ({fmt.score(handed.validation, metric)})"
    text = f"on validation a simple model without a checkpoint scores better than {own}"
    fix = "take the simple model, or raise budget, pool_budget or tuning.learning_rate"
    return [warning("control-ahead", f"{text}: {told}", handed.name, fix)] if ahead else []
