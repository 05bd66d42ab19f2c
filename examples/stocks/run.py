"""One command for this example: makes the table and the base, then runs the study (again: resumes it).

python examples/stocks/run.py --data DIR     # or TUNEMERGE_DATA=DIR
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
FILE = "finance_stocknet_88_stocks/prices.csv.gz"
MISSING = f"""missing: {FILE} in the folder of --data or TUNEMERGE_DATA: a CSV with the columns ticker, sector, date,
adj_close, sorted by ticker and date. The prices are those of StockNet (Xu and Cohen 2018, MIT licence; from Yahoo
Finance): https://github.com/yumoxu/stocknet-dataset, price/raw, with the sectors of its StockTable."""


def table(file: Path) -> pd.DataFrame:
    """The prices without three lines that have none."""
    return pd.read_csv(file)[["ticker", "sector", "date", "adj_close"]].dropna()


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
    table(Path(data) / FILE).to_csv(HERE / "prices.csv.gz", index=False)
    base(HERE / "base")
    sys.exit(subprocess.call([sys.executable, "-m", "tunemerge", "run", str(HERE / "study.yaml")]))


if __name__ == "__main__":
    main()
