"""One command for this example: makes the long table and the base, then runs the study (again: resumes it).

python examples/m3/run.py --data DIR     # or TUNEMERGE_DATA=DIR
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
FILE = "forecasting_m3/m3.csv.gz"
MISSING = f"""missing: {FILE} in the folder of --data or TUNEMERGE_DATA: a CSV with a row a series and the columns
series, frequency (month), category, and values (numbers with blanks between them). The M3 competition's series
(Makridakis and Hibon 2000) are offered freely for research by the International Institute of Forecasters, https://forecasters.org
(M3C.xls), and by the Monash archive under CC BY 4.0, https://forecastingdata.org"""
CATEGORIES = ("demographic", "finance", "industry", "macro")


def table(file: Path) -> pd.DataFrame:
    """Monthly series as lines of series, category, step, value; the competition's clock: the last value is step 0."""
    wide = pd.read_csv(file, keep_default_na=False)
    wide = wide[(wide["frequency"] == "month") & wide["category"].isin(CATEGORIES)]
    long = wide.assign(value=wide["values"].str.split())[["series", "category", "value"]].explode("value")
    long["step"] = long.groupby("series").cumcount(ascending=False).mul(-1)
    return long[["series", "category", "step", "value"]]


def base(folder: Path) -> None:
    """A small PatchTSMixer with random weights: every model of the study starts here."""
    from transformers import PatchTSMixerConfig, PatchTSMixerModel, set_seed

    set_seed(0)
    config = PatchTSMixerConfig(
        context_length=36, patch_length=6, patch_stride=6, d_model=48, num_layers=3, dropout=0.1, head_dropout=0.1
    )
    PatchTSMixerModel(config).save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("TUNEMERGE_DATA"))
    data = parser.parse_args().data
    if data is None or not (Path(data) / FILE).is_file():
        sys.exit(MISSING)
    table(Path(data) / FILE).to_csv(HERE / "m3.csv.gz", index=False)
    base(HERE / "base")
    sys.exit(subprocess.call([sys.executable, "-m", "tunemerge", "run", str(HERE / "study.yaml")]))


if __name__ == "__main__":
    main()
