"""The demo: a real study on real parts, small enough for minutes on two cores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunemerge.study.study import Study

STUDY = Path(__file__).parent / "study.yaml"
QUICK = [
    "name=demo-quick",
    "seeds=2",
    "methods=[linear]",
    "strategies=[merge_then_tune, tune_then_merge, joint, expert, expert_tuned, ensemble]",
]


def demo_study(quick: bool = False) -> Study:
    """The study of `tunemerge demo`. `quick`: two seeds, which settle nothing, in well under 90 seconds."""
    from tunemerge.study.study import Study

    return Study.from_yaml(STUDY, QUICK if quick else None)
