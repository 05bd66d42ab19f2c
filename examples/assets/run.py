"""One command for this example: makes the table and the base, then runs the study (again: resumes it).

python examples/assets/run.py --data DIR     # or TUNEMERGE_DATA=DIR
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
FILE = "finance_multi_asset/daily.csv.gz"
MISSING = f"""missing: {FILE} in the folder of --data or TUNEMERGE_DATA: a CSV with the columns asset_class, asset,
date, close, sorted by asset and date. Exchange rates are the European Central Bank's (free reuse, source named):
https://www.ecb.europa.eu/stats/eurofxref/eurofxref-hist.zip. S&P 500, Nasdaq and oil ship with the package arch (NCSA
licence, from Yahoo Finance and FRED): https://pypi.org/project/arch. Bitcoin and Ether (CC0):
https://github.com/GNU-Linuxer/seattle-polie-data-analysis"""
YEARS = ("2014-01-01", "2018-12-31")


def table(file: Path) -> pd.DataFrame:
    """The years that all classes have; a volatility index is no asset and stays out, Ether begins too late."""
    daily = pd.read_csv(file)[["asset_class", "asset", "date", "close"]]
    wanted = daily["date"].between(*YEARS) & (daily["asset_class"] != "volatility") & (daily["asset"] != "ETHUSD")
    return daily[wanted]


def base(folder: Path) -> None:
    """A small PatchTSMixer with random weights: every model of the study starts here."""
    from transformers import PatchTSMixerConfig, PatchTSMixerModel, set_seed

    set_seed(0)
    config = PatchTSMixerConfig(
        context_length=40, patch_length=5, patch_stride=5, d_model=16, num_layers=2, dropout=0.2, head_dropout=0.2
    )
    PatchTSMixerModel(config).save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("TUNEMERGE_DATA"))
    data = parser.parse_args().data
    if data is None or not (Path(data) / FILE).is_file():
        sys.exit(MISSING)
    table(Path(data) / FILE).to_csv(HERE / "daily.csv.gz", index=False)
    base(HERE / "base")
    sys.exit(subprocess.call([sys.executable, "-m", "tunemerge", "run", str(HERE / "study.yaml")]))


if __name__ == "__main__":
    main()
