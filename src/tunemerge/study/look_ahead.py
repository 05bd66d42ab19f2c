"""Forecasts that were tested with what was trained on later: nothing of a test period may be known before it begins."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from tunemerge.findings import Finding, error, warning
from tunemerge.study.config import StudyConfig
from tunemerge.study.rows_check import TRAINED
from tunemerge.tasks.task import TASKS

Frames = Mapping[str, pd.DataFrame]

_FIX = "cut all tasks at the same times: `splits: {by: time, column: ...}`"


def look_ahead(config: StudyConfig, frames: Mapping[str, Mapping[int, Frames]]) -> list[Finding]:
    """Rows of training and choice whose answer came after a tested forecast was made: of the same series an error, of
    others a warning (what moves all of them is seen in advance). Given files and splits by series can do that; one cut
    by time can't."""
    timed = {n: by for n, by in frames.items() if TASKS[str(config.tasks[n].kind)].timed}
    found = []
    for tested, runs in timed.items():
        for name in timed:
            same = other = 0
            for run, parts in runs.items():
                one, two = _late(parts, timed[name].get(run, {}))
                same, other = max(same, one), max(other, two)
            both = f"{name}" if name == tested else f"{name}, which tests {tested},"
            if same:
                text = (
                    f"{same} training or validation rows of {both} have an answer that came after the first tested "
                    "forecast of the same series"
                )
                found.append(error("look-ahead", text, f"tasks.{tested}", _FIX))
            elif other:
                text = (
                    f"{other} training or validation rows of {both} have an answer from the time that is tested, of "
                    "other series: what moves all of them is known in advance"
                )
                found.append(warning("same-period", text, f"tasks.{tested}", _FIX))
    return found


def _late(tested: Frames, others: Frames) -> tuple[int, int]:
    """How many rows that are trained or chosen on look ahead of tests of their own series, and of others."""
    scored = [tested[s] for s in ("test", "held_out") if s in tested and len(tested[s])]
    known = [others[s] for s in (*TRAINED, "validation") if s in others and len(others[s])]
    if not scored or not known:
        return 0, 0
    begins = pd.concat([rows[["series", "time"]] for rows in scored]).groupby("series")["time"].min()
    rows = pd.concat([rows[["series", "known"]] for rows in known])
    own = rows["series"].map(begins)
    same = int((rows["known"] > own).sum())
    return same, int((rows["known"] > begins.min()).sum()) - same
