"""Train and validation curves of tune steps: one panel a kind of step, thin lines a seed, bold their mean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import mean, median

from tunemerge.report import format as fmt
from tunemerge.report.svg import Svg, el, figure, line, nice_ticks, path, text
from tunemerge.results import OPENED, CurvePoint, Results, StepResult

_SEED = re.compile(r"[\s,(\[·/-]*\bseed[\s=:_-]*\d+\b[)\]]?", re.IGNORECASE)
_W, _H, _LEFT, _RIGHT, _TOP, _BOTTOM = 300.0, 190.0, 38.0, 290.0, 12.0, 158.0


def seedless(label: str) -> str:
    """A step's label without its seed: "tune yelp (seed 3)" -> "tune yelp"."""
    return _SEED.sub("", label).strip() or label


@dataclass(frozen=True)
class Panel:
    """The same tune step over all seeds. `gap`: validation minus train loss at the chosen step, mean over seeds, None
    where not recorded; `opened`: in how many of the steps the validation loss ended well above its lowest."""

    label: str
    arms: tuple[str, ...]
    steps: tuple[StepResult, ...]
    gap: float | None
    opened: int


def _known(step: StepResult) -> StepResult:
    """The step with losses that are no numbers (a diverged tuning) taken for not recorded."""
    points = [
        p.model_copy(update={n: None for n in ("train_loss", "validation_loss") if not isfinite(getattr(p, n) or 0)})
        for p in step.curve
    ]
    return step.model_copy(update={"curve": points})


def _at(step: StepResult) -> CurvePoint | None:
    return next((p for p in step.curve if p.step == step.chosen_step), None)


def _gap(step: StepResult) -> float | None:
    """The train loss may be missing where the chosen step is the very start; then the first one recorded counts."""
    chosen = _at(step)
    if chosen is None or chosen.validation_loss is None:
        return None
    train = next((p.train_loss for p in step.curve if p.step >= chosen.step and p.train_loss is not None), None)
    return None if train is None else chosen.validation_loss - train


def _opened(step: StepResult) -> bool:
    losses = [p.validation_loss for p in step.curve if p.validation_loss is not None]
    return bool(losses) and losses[-1] > OPENED * min(losses)


def panels(results: Results) -> list[Panel]:
    """Tune steps with a curve, grouped by label (without seed) and arms, in the order of the results."""
    groups: dict[tuple[str, tuple[str, ...]], list[StepResult]] = {}
    for step in results.steps:
        if step.op == "tune" and step.curve:
            groups.setdefault((seedless(step.label), tuple(sorted(step.arms))), []).append(_known(step))
    found = []
    for (label, arms), steps in groups.items():
        gaps = [g for g in map(_gap, steps) if g is not None]
        found.append(Panel(label, arms, tuple(steps), mean(gaps) if gaps else None, sum(map(_opened, steps))))
    return found


def _mean_line(curves: Sequence[Sequence[tuple[float, float]]]) -> list[tuple[float, float]]:
    """Mean over seeds at the positions that every curve has."""
    common = set.intersection(*({x for x, _ in c} for c in curves)) if curves else set()
    return [(x, mean(dict(c)[x] for c in curves)) for x in sorted(common)]


def draw(panel: Panel, ident: str, ticks: Sequence[float]) -> Svg:
    """One panel; the y scale (loss) is given, the same for all."""
    furthest = max(p.examples for s in panel.steps for p in s.curve) or 1
    low, high = ticks[0], ticks[-1]

    def spot(examples: float, loss: float) -> tuple[float, float]:
        y = _BOTTOM - (min(loss, high) - low) / (high - low) * (_BOTTOM - _TOP)
        return _LEFT + examples / furthest * (_RIGHT - _LEFT), y

    body = [line(_LEFT, spot(0, t)[1], _RIGHT, spot(0, t)[1], "grid") for t in ticks]
    body += [text(_LEFT - 6, spot(0, t)[1] + 4, f"{t:g}", "tick", "end") for t in ticks]
    body += [
        text(_LEFT, _BOTTOM + 17, "0", "tick", "middle"),
        text(_RIGHT, _BOTTOM + 17, fmt.count(furthest), "tick", "end"),
    ]
    body += [text((_LEFT + _RIGHT) / 2, _BOTTOM + 17, "examples", "label", "middle")]
    for kind in ("train", "valid"):
        curves = []
        for step in panel.steps:
            losses = [(p.examples, p.train_loss if kind == "train" else p.validation_loss) for p in step.curve]
            curve = [(float(x), v) for x, v in losses if v is not None]
            if curve:
                curves.append(curve)
                body.append(path([spot(*p) for p in curve], f"thin {kind}"))
        average = _mean_line(curves)
        if len(average) > 1:
            body.append(path([spot(*p) for p in average], f"thick {kind}"))
    chosen = [p for p in map(_at, panel.steps) if p is not None]
    for point in chosen:
        if point.validation_loss is not None:
            x, y = spot(point.examples, point.validation_loss)
            body.append(el("circle", cx=x, cy=y, r=3.5, cls="chosen"))
    where = f"Kept after {fmt.count(median(p.examples for p in chosen))} examples (median). " if chosen else ""
    gap = (
        f"Validation minus train loss there: {fmt.plain(panel.gap)}."
        if panel.gap is not None
        else "The gap was not recorded."
    )
    return figure(ident, f"Loss curves: {panel.label}", f"{where}{gap}", body, width=_W, height=_H, cls="curve")


def loss_ticks(found: Sequence[Panel]) -> list[float]:
    """One y scale for all panels, from 0."""
    losses = [
        v for p in found for s in p.steps for c in s.curve for v in (c.train_loss, c.validation_loss) if v is not None
    ]
    return nice_ticks(0.0, max(losses, default=1.0), 4)
