"""Wearables: today's calories from the days and hours before.

    python examples/wearables/run.py --data DIR

Puts the tables that the study joins into work/, runs study.yaml, and puts results.json beside it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

import pandas as pd

import tunemerge

HERE = Path(__file__).parent
FILES = ("fitbit_daily.csv.gz", "fitbit_hourly_intensity.csv.gz")
SOURCE = (
    "Fitbit tracker data of 33 volunteers, Furberg et al. 2016, Zenodo (doi 10.5281/zenodo.53894), CC BY 4.0: daily "
    "activity and hourly intensities, accounts numbered in a column person"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="the folder that wearables_fitbit lies in; absent: TUNEMERGE_DATA")
    folder = Path(parser.parse_args().data or os.environ.get("TUNEMERGE_DATA", "")) / "wearables_fitbit"
    missing = [file for file in FILES if not (folder / file).is_file()]
    if missing:
        sys.exit(f"{folder} lacks {', '.join(missing)}: {SOURCE}. Name the folder above with --data or TUNEMERGE_DATA")
    write_tables(folder, HERE / "work")
    study = tunemerge.Study.from_yaml(HERE / "study.yaml")
    study.run()
    shutil.copyfile(study.run_folder / "results.json", HERE / "results.json")
    shutil.copyfile(study.run_folder / "report.md", HERE / "results.md")


def write_tables(folder: Path, work: Path) -> None:
    """Days on which the tracker was worn (steps, and more than 1,000 calories), persons dealt to three groups."""
    work.mkdir(exist_ok=True)
    days = pd.read_csv(folder / FILES[0])
    days = days[(days["TotalSteps"] > 0) & (days["Calories"] > 1000)]
    days["weekday"] = pd.to_datetime(days["ActivityDate"]).dt.day_name()
    days["group"] = [chr(ord("a") + person % 3) for person in days["person"]]
    first = days.groupby("person")["ActivityDate"].transform("min")
    # The first day of a person has no days before it.
    today = days.loc[days["ActivityDate"] > first, ["person", "group", "ActivityDate", "weekday", "Calories"]]
    today.to_csv(work / "days.csv", index=False)
    days.rename(columns={"ActivityDate": "day"}).drop(columns=["group", "weekday"]).to_csv(
        work / "history.csv", index=False
    )
    pd.read_csv(folder / FILES[1]).to_csv(work / "hours.csv", index=False)


if __name__ == "__main__":
    main()
