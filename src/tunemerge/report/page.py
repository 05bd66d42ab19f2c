"""report.html: one static page, complete in itself. No script, no font, no request; a strict policy says so."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from tunemerge.report import bars, curves, view
from tunemerge.report import format as fmt
from tunemerge.report.clean import clean_results
from tunemerge.report.graph import drawn_seed, graph
from tunemerge.report.heatmap import CLASSES, heatmap
from tunemerge.report.pareto import pareto
from tunemerge.report.svg import Svg
from tunemerge.report.worth import worth
from tunemerge.results import Results


@cache
def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("tunemerge.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals |= {"fmt": fmt, "view": view, "classes": range(CLASSES)}
    found.filters |= {"anchor": _anchor, "breakable": _breakable, "coded": _coded}
    return found


def _anchor(key: str) -> str:
    """The id of a step's row: only characters that are safe in a fragment."""
    return "step-" + re.sub(r"[^0-9A-Za-z]", "-", fmt.short(key))


def _breakable(name: str) -> Markup:
    """A name that may break after its separators, before it breaks anywhere else."""
    return Markup("<wbr>").join(re.findall(r"[^/_.:-]*[/_.:-]+|[^/_.:-]+", name))


def _coded(sentence: str) -> Markup:
    """A sentence in which keys and commands stand in backticks."""
    parts = [escape(part) for part in re.split(r"`([^`\n]+)`", sentence)]
    return Markup("").join(Markup("<code>{}</code>").format(part) if i % 2 else part for i, part in enumerate(parts))


@cache
def _style() -> tuple[str, str]:
    """The style sheet and its hash for the policy: the browser refuses any other style."""
    css = _environment().get_template("style.css").render()
    return css, "sha256-" + base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()


def _shown(picture: Svg | None) -> Markup | None:
    """Pictures are escaped where they are drawn."""
    return None if picture is None else Markup(picture)


def _pictures(results: Results) -> dict[str, Any]:
    found: dict[str, Any] = {"arm_bars": {}, "contrast_bars": []}
    if results.arms:
        scale = bars.arm_scale(results)
        found["arm_axes"] = {role: _shown(bars.axis(scale, results, f"axis-{role}")) for role in view.ROLES}
        found["arm_bars"] = {
            a.name: _shown(bars.arm_bar(a, scale, results, f"bar-{i}")) for i, a in enumerate(results.arms)
        }
        today = results.incumbent
        found["today_bar"] = _shown(bars.today_bar(today, scale, results) if today else None)
        found["today_axis"] = _shown(bars.axis(scale, results, "axis-today"))
        found["pareto_wide"] = _shown(pareto(results, "pareto-wide"))
        found["pareto_narrow"] = _shown(pareto(results, "pareto-narrow", narrow=True))
        found["heatmap_wide"] = _shown(heatmap(results, "heatmap-wide"))
        found["heatmap_narrow"] = _shown(heatmap(results, "heatmap-narrow", narrow=True))
    shown = bars.contrasts(results)
    if shown:
        scale = bars.contrast_scale(results)
        for place in ("wide", "narrow"):  # in the head of the table; on a phone, which has no head, above the cards
            found[f"contrast_axis_{place}"] = _shown(bars.axis(scale, results, f"axis-{place}", differences=True))
        found["contrast_bars"] = [
            _shown(bars.contrast_bar(c, scale, results, f"forest-{i}")) for i, c in enumerate(shown)
        ]
    found["portfolios"] = _shown(worth(results))
    found["curves"], found["more_curves"] = _curves(results)
    found["graph"], found["graph_seed"] = _shown(graph(results, "graph")), drawn_seed(results)
    return found


def _curves(results: Results) -> tuple[list[tuple[curves.Panel, Markup]], list[tuple[curves.Panel, Markup]]]:
    """Panels worth showing at once (of the arm handed back, and where the gap opens), and the others."""
    panels = curves.panels(results)
    ticks = curves.loss_ticks(panels)
    drawn = [(p, Markup(curves.draw(p, f"curve-{i}", ticks))) for i, p in enumerate(panels)]
    first = [d for d in drawn if d[0].opened or results.verdict.handed_back in d[0].arms]
    return (first, [d for d in drawn if d not in first]) if first else (drawn, [])


def render_html(results: Results) -> str:
    """The whole page. The same results always give the same bytes."""
    shown = view.ordered(clean_results(results))
    css, digest = _style()
    template = _environment().get_template("page.html.j2")
    return template.render(
        r=shown, css=Markup(css), style_hash=digest, findings=view.findings(shown), notes=view.notes(shown),
        groups=view.groups(shown), searches=view.searches(shown), steps={s.key: s for s in shown.steps},
        metrics=view.other_metrics(shown), handed=next((a for a in shown.arms if a.handed_back), None),
        **_pictures(shown),
    )  # fmt: skip
