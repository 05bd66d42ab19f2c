"""Diabetes in 130 hospitals: readmission within 30 days, a model a medical specialty.

    python examples/diabetes/run.py --data DIR

Puts the encounters that the study reads into work/, runs study.yaml, and puts results.json beside it.
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
FILE = "diabetes_130_hospitals/diabetic_data.csv.gz"
SOURCE = (
    "Diabetes 130-US Hospitals for Years 1999-2008, UCI Machine Learning Repository 296 (Strack et al. 2014), CC BY "
    "4.0, its CSV compressed, '?' left empty"
)
SITES = ("InternalMedicine", "Emergency/Trauma", "Cardiology")
EACH = 3400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="the folder that diabetes_130_hospitals lies in; absent: TUNEMERGE_DATA")
    file = Path(parser.parse_args().data or os.environ.get("TUNEMERGE_DATA", "")) / FILE
    if not file.is_file():
        sys.exit(f"{file} is missing: {SOURCE}. Name the folder above with --data or TUNEMERGE_DATA")
    (HERE / "work").mkdir(exist_ok=True)
    table = pd.read_csv(file, keep_default_na=False, na_values=[""], dtype=str)
    # A patient's first encounter: later ones know more, and of the dead nobody is readmitted.
    table = table[~table["discharge_disposition_id"].isin({"11", "13", "14", "19", "20", "21"})]
    first = table.drop_duplicates("patient_nbr")
    parts = [first[first["medical_specialty"] == site].head(EACH) for site in SITES]
    pd.concat(parts).to_csv(HERE / "work" / "encounters.csv", index=False)
    study = tunemerge.Study.from_yaml(HERE / "study.yaml")
    study.run()
    shutil.copyfile(study.run_folder / "results.json", HERE / "results.json")
    shutil.copyfile(study.run_folder / "report.md", HERE / "results.md")


if __name__ == "__main__":
    main()
