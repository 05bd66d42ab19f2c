"""The leaderboard and the verdict in a terminal. Readable at 80 columns and without colour (rich honours NO_COLOR)."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tunemerge.report import format as fmt
from tunemerge.report import view
from tunemerge.report.clean import clean_results
from tunemerge.results import ArmResult, Results

_COLOURS = {"better": "green", "equivalent": "cyan", "inconclusive": "yellow", "leads": "yellow", "dont_merge": "red"}
_SHOWN = 3


def _sign(arm: ArmResult) -> str:
    if arm.ceiling:
        return "†"
    return "★" if arm.handed_back else "·" if not arm.deliverable else "+" if not arm.matched else ""


def _flat(text: str) -> Text:
    """Plain text, never console markup; one line."""
    return Text(" ".join(text.split()))


def _table(results: Results) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("", width=1, style="bold cyan", no_wrap=True)
    table.add_column("arm", overflow="fold", ratio=1, min_width=18)
    table.add_column("test", justify="right", no_wrap=True)
    table.add_column(f"{100 * results.level:g}% interval", justify="right", no_wrap=True)
    table.add_column("valid.", justify="right", no_wrap=True)
    table.add_column("ex.", justify="right", no_wrap=True)
    table.add_column("compute", justify="right", no_wrap=True)
    for role, title, arms in view.groups(results):
        table.add_row("", Text(title, style="italic"), end_section=False)
        for arm in arms:
            style = "bold" if arm.handed_back else "dim" if role == "control" else ""
            table.add_row(
                _sign(arm),
                _flat("; ".join([_name(arm), *view.choices(arm)])),
                fmt.score(arm.test.value, results.metric),
                fmt.interval(arm.test, results.metric),
                fmt.score(arm.validation, results.metric),
                fmt.count(arm.marginal.examples),
                fmt.flops(fmt.all_flops(arm.marginal)),
                style=style,
            )
    if today := results.incumbent:
        table.add_row("", Text("What runs today", style="italic"))
        score, interval = fmt.score(today.test.value, results.metric), fmt.interval(today.test, results.metric)
        table.add_row("", _flat(today.name), score, interval, fmt.NONE, fmt.UNKNOWN, fmt.UNKNOWN)
    return table


def _name(arm: ArmResult) -> str:
    """An arm's name, cut in the middle where it would fill the screen."""
    return arm.name if len(arm.name) <= 60 else f"{arm.name[:38]}…{arm.name[-20:]}"


def _legend(results: Results) -> Text:
    meanings = {
        "★": "handed back",
        "·": "not a deliverable",
        "†": "unattainable ceiling: pools private rows",
        "+": "spends more, stands apart",
    }
    used = [f"{sign} {meaning}" for sign, meaning in meanings.items() if any(_sign(a) == sign for a in results.arms)]
    costs = f"costs are marginal, a mean over {view.run_word(results)}s{view.times(results)}"
    return Text("; ".join([*used, f"test: {fmt.metric_name(results.metric)}; {costs}"]), style="dim")


def _verdict(results: Results) -> Panel:
    verdict = results.verdict
    body = Text()
    body.append(" ".join(verdict.sentence.split()), style="bold")
    for detail in verdict.details:
        body.append(f"\n- {' '.join(detail.split())}")
    run = view.run_name(results, verdict.handed_back_seed)
    seed = f" ({run})" if run else ""
    body.append(f"\n\nHanded back: {' '.join((verdict.handed_back or 'nothing').split())}{seed}. ")
    body.append(fmt.sentence(" ".join(verdict.handed_back_reason.split())))
    for note in view.notes(results):
        body.append(f"\n\n{' '.join(note.split())}", style="yellow")
    colour = _COLOURS[verdict.kind]
    return Panel(body, title=Text(view.KINDS[verdict.kind]), title_align="left", border_style=colour, padding=(1, 2))


def _warnings(results: Results) -> list[Text]:
    """The first warnings; all findings are in the report."""
    found = [f for f in view.findings(results) if f.severity != "note"]
    lines = [f"{f.severity}: {f.message.rstrip('.')}{': ' * bool(f.remedy)}{f.remedy}" for f in found[:_SHOWN]]
    if len(found) > _SHOWN:
        lines.append(f"and {fmt.plural(len(found) - _SHOWN, 'more warning')}: see the report")
    return [Text(" ".join(line.split()), style="yellow") for line in lines]


def leaderboard(results: Results) -> RenderableType:
    """What `tunemerge run` prints at the end: the arms as a table, what the marks mean, the verdict, warnings."""
    shown = view.ordered(clean_results(results))
    return Group(_table(shown), _legend(shown), Text(), _verdict(shown), *_warnings(shown))
