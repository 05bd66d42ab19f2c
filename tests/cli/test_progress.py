"""What a run shows while it goes on: columns that keep their places, and an ETA that is no nonsense."""

import io
from types import SimpleNamespace

import pytest
from rich.cells import cell_len
from rich.console import Console

from tunemerge.cli.progress import Watch
from tunemerge.graph.events import StepFinished, StepProgress, StepStarted
from tunemerge.study.estimate import Estimate, Forecast

LONG = "tuned task_arithmetic merge: task_arithmetic merge, 48 steps on amazon adapt+imdb adapt+yelp adapt"


class Run:
    """A run of steps that are known by their numbers, on a clock that is set by hand."""

    def __init__(self, steps: int, cached: int, *, width: int = 100, terminal: bool = False) -> None:
        self.now, self.out = 1000.0, io.StringIO()
        console = Console(file=self.out, width=width, force_terminal=terminal, color_system=None)
        self.watch = Watch(console, 2, lambda: self.now)
        costs = {str(i): Estimate(1e9, 1.0, 0) for i in range(cached, steps)}
        plan = SimpleNamespace(graph=SimpleNamespace(steps=range(steps)))
        self.watch.planned(plan, Forecast(costs, 1.0, (0.6, 1.7)))
        for i in range(cached):
            self.tell(StepFinished, i, None, True)

    def tell(self, kind, number, *more, label="step"):
        self.watch(kind(SimpleNamespace(key=str(number), op="tune"), label, *more))

    def minutes_left(self):
        words = self.watch._eta().split()
        return None if not words else float(words[1]) / (1 if words[2] == "min" else 60)


def test_a_resumed_run_says_so_and_stored_steps_set_no_pace():
    """216 steps of a second each on two workers are two minutes, however slow the first of them was."""
    run = Run(270, 54)
    for first in (54, 55):
        run.tell(StepStarted, first)
    assert run.out.getvalue() == "54 of 270 steps are taken from the store\n"
    run.now += 9
    run.tell(StepFinished, 54, None, False)
    assert run.minutes_left() is None
    run.now += 3
    run.tell(StepFinished, 55, None, False)
    assert 1 < run.minutes_left() < 4
    for i in range(56, 130):
        run.tell(StepStarted, i)
        run.now += 1.0  # twice the forecast
        run.tell(StepFinished, i, None, False)
    assert run.minutes_left() == pytest.approx(140 / 60, rel=0.2)


def test_a_new_run_does_not_call_itself_resumed():
    run = Run(10, 0)
    run.tell(StepStarted, 0)
    assert run.out.getvalue() == ""


def test_what_a_running_step_has_done_counts():
    run = Run(3, 0)
    run.tell(StepStarted, 0)
    run.now += 15
    run.tell(StepProgress, 0, 0.5, "half")
    assert run.minutes_left() is not None


def picture(run):
    with run.watch.console.capture() as shown:
        run.watch.console.print(run.watch.progress.get_renderable())
    return shown.get().splitlines()


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_columns_keep_their_widths_whatever_the_steps_say(width):
    run = Run(270, 54, width=width, terminal=True)
    run.tell(StepStarted, 60, label=LONG)
    run.tell(StepStarted, 61, label="x")
    run.tell(StepProgress, 60, 0.25, "step 12/48, loss 0.613, validation 0.592 and a good deal more than that")
    before = picture(run)
    run.tell(StepProgress, 60, 0.25, "x")
    after = picture(run)
    assert len(before) == 3
    for line in (*before, *after):
        assert cell_len(line) <= width
    for one, two in zip(before, after, strict=True):
        percent = one.index("%")
        assert percent == two.index("%") == before[0].index("%")
        assert one[percent + 1 :].split()[0] in ("0:00:00", "-:--:--")
    assert before[1].count("━") == 4  # a quarter of 16
    assert "…" in before[1] and LONG[:10] in before[1]
