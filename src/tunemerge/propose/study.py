"""A proposal made whole: sized to the minutes, checked as `tunemerge check` does, as text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tunemerge.findings import Finding, FindingsError
from tunemerge.graph.executors.local import LocalExecutor
from tunemerge.propose.proposal import Proposal
from tunemerge.propose.size import Size, fit
from tunemerge.propose.tables import task_name
from tunemerge.propose.write import study_text
from tunemerge.report import format as fmt
from tunemerge.store.artifacts import Store
from tunemerge.study.estimate import forecast
from tunemerge.study.study import Study
from tunemerge.yamlfile import parse_yaml


@dataclass(frozen=True)
class Proposed:
    """`seconds`: what the run will take, from and to; None where nobody knows."""

    text: str
    findings: tuple[Finding, ...]
    seconds: tuple[float, float] | None


def make_study(proposal: Proposal, minutes: float, out: Path) -> Proposed:
    """The file's text. Raises FindingsError with all that `check` would refuse."""
    name = task_name(out.resolve().parent.name if out.stem == "study" else out.stem)

    def study(size: Size, time: str = "") -> tuple[Study, str]:
        text = study_text(proposal, size, name, out, time)
        return Study.from_dict(parse_yaml(text, out.name)[0], out.resolve().parent), text

    # A store that has nothing: what the file says does not depend on what ran before.
    nowhere = Store(out.resolve().parent / ".tunemerge-none")

    def seconds(size: Size) -> tuple[float, float] | None:
        return forecast(study(size)[0].plan(), nowhere).wall(LocalExecutor().slots)

    def in_minutes(size: Size) -> tuple[float, float] | None:
        # A seed is planned in a fifth of the time of five, and takes its share of them.
        wall = seconds(replace(size, seeds=1))
        return None if wall is None else (wall[0] * size.seeds / 60, wall[1] * size.seeds / 60)

    size = fit(proposal, minutes, in_minutes)
    wall = seconds(size)
    time = "nobody knows how long it takes before something has run on this device"
    if wall is not None:
        time = f"inferred from --minutes {minutes:g}: the study takes {fmt.seconds_range(*wall)} on this machine"
        if (wall[0] * wall[1]) ** 0.5 > 60 * minutes:
            time = (
                f"the smallest that is proposed, for --minutes {minutes:g}: {fmt.seconds_range(*wall)} on this machine"
            )
    made, text = study(size, time)
    found = made.check()
    if any(f.severity == "error" for f in found):
        raise FindingsError(found)
    return Proposed(text, tuple(found), wall)
