"""Returns of four classes of assets: python examples/assets/run.py --data DIR"""

import sys
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from small_series import run_example  # noqa: E402

MISSING = """It is a CSV with the columns asset_class, asset, date, close, sorted by asset and date.
Exchange rates are the European Central Bank's (free reuse, source named):
https://www.ecb.europa.eu/stats/eurofxref/eurofxref-hist.zip. S&P 500, Nasdaq and oil ship with the package arch (NCSA
licence, from Yahoo Finance and FRED): https://pypi.org/project/arch. Bitcoin (CC0):
https://github.com/GNU-Linuxer/seattle-polie-data-analysis"""
YEARS = ("2014-01-01", "2018-12-31")


def table(file: Path) -> pd.DataFrame:
    """The years that all classes have; a volatility index is no asset and stays out, Ether begins too late."""
    daily = pd.read_csv(file)[["asset_class", "asset", "date", "close"]]
    wanted = daily["date"].between(*YEARS) & (daily["asset_class"] != "volatility") & (daily["asset"] != "ETHUSD")
    return daily[wanted]


if __name__ == "__main__":
    network = {"context_length": 40, "patch_length": 5, "patch_stride": 5, "d_model": 16, "num_layers": 2}
    run_example(HERE, "finance_multi_asset/daily.csv.gz", MISSING, table, **network, dropout=0.2, head_dropout=0.2)
