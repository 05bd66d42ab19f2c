"""What money became that followed each arm's predicted returns: a line an arm, over the days that are tested."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tunemerge.report.svg import Svg, figure, line, nice_ticks, path, text, titled
from tunemerge.results import ArmResult, Results

_W, _H, _LEFT, _RIGHT, _TOP, _BOTTOM = 760.0, 250.0, 46.0, 744.0, 12.0, 214.0


def worth(results: Results) -> Svg | None:
    """None where no returns are predicted. Arms are solid, controls dashed, what is handed back bold."""
    arms = [(a, a.portfolio) for a in results.arms if a.portfolio and len(a.portfolio.days) > 1]
    if not arms:
        return None
    first, last = min(p.days[0] for _, p in arms), max(p.days[-1] for _, p in arms)
    values = [1.0, *(v for _, p in arms for v in p.worth)]
    ticks = nice_ticks(min(values), max(values), 5)
    low, high = ticks[0], ticks[-1]

    def spot(day: float, value: float) -> tuple[float, float]:
        across = (day - first) / (last - first) * (_RIGHT - _LEFT)
        return _LEFT + across, _BOTTOM - (value - low) / (high - low) * (_BOTTOM - _TOP)

    body = [line(_LEFT, spot(first, t)[1], _RIGHT, spot(first, t)[1], "grid") for t in ticks]
    body += [text(_LEFT - 6, spot(first, t)[1] + 4, f"{t:g}", "tick", "end") for t in ticks]
    body += [
        text(_LEFT, _BOTTOM + 18, _date(first), "tick"),
        text(_RIGHT, _BOTTOM + 18, _date(last), "tick", "end"),
        text((_LEFT + _RIGHT) / 2, _BOTTOM + 18, "what 1 became, after costs", "label", "middle"),
    ]
    # What is handed back is drawn last, over the others.
    for arm, own in sorted(arms, key=lambda pair: pair[0].handed_back):
        points = [spot(day, value) for day, value in zip(own.days, own.worth, strict=True)]
        body.append(titled(f"{arm.name}: {own.worth[-1]:.3f}", path(points, _look(arm))))
    best = max(arms, key=lambda pair: pair[1].worth[-1])
    told = f"Highest at the end: {best[0].name}, {best[1].worth[-1]:.3f}."
    return figure("worth", "What 1 became by arm", told, body, width=_W, height=_H, cls="curve")


def _look(arm: ArmResult) -> str:
    return f"{'thick' if arm.handed_back else 'thin'} {'valid' if arm.role == 'control' else 'train'}"


def _date(day: float) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)).strftime("%Y-%m-%d")
