"""The M3 competition's monthly series: python examples/m3/run.py --data DIR"""

import sys
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from small_series import run_example  # noqa: E402

MISSING = """It is a CSV with a row a series and the columns series, frequency (month), category, and values (numbers
with blanks between them). The M3 series (Makridakis and Hibon 2000) are offered freely for research by the
International Institute of Forecasters, https://forecasters.org (M3C.xls), and by the Monash archive under CC BY 4.0,
https://forecastingdata.org"""
CATEGORIES = ("demographic", "finance", "industry", "macro")


def table(file: Path) -> pd.DataFrame:
    """Lines of series, category, step, value; the competition's clock: the last value of a series is step 0."""
    wide = pd.read_csv(file, keep_default_na=False)
    wide = wide[(wide["frequency"] == "month") & wide["category"].isin(CATEGORIES)]
    long = wide.assign(value=wide["values"].str.split())[["series", "category", "value"]].explode("value")
    long["step"] = long.groupby("series").cumcount(ascending=False).mul(-1)
    return long[["series", "category", "step", "value"]]


if __name__ == "__main__":
    network = {"context_length": 36, "patch_length": 6, "patch_stride": 6, "d_model": 48, "num_layers": 3}
    run_example(HERE, "forecasting_m3/m3.csv.gz", MISSING, table, **network, dropout=0.1, head_dropout=0.1)
