"""Next week's returns of 88 stocks: python examples/stocks/run.py --data DIR"""

import sys
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from small_series import run_example  # noqa: E402

MISSING = """It is a CSV with the columns ticker, sector, date, adj_close, sorted by ticker and date. The prices are
StockNet's (Xu and Cohen 2018, MIT licence; from Yahoo Finance): https://github.com/yumoxu/stocknet-dataset, price/raw,
with the sectors of its StockTable."""


def table(file: Path) -> pd.DataFrame:
    """The prices without three lines that have none."""
    return pd.read_csv(file)[["ticker", "sector", "date", "adj_close"]].dropna()


if __name__ == "__main__":
    network = {"context_length": 40, "patch_length": 5, "patch_stride": 5, "d_model": 16, "num_layers": 2}
    run_example(
        HERE, "finance_stocknet_88_stocks/prices.csv.gz", MISSING, table, **network, dropout=0.2, head_dropout=0.2
    )
