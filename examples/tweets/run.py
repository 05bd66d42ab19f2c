"""Tweets and prices: will a share move more tomorrow than it usually does?

    python examples/tweets/run.py --data DIR

Puts the table into work/, runs study.yaml, and puts results.json beside it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd

import tunemerge

HERE = Path(__file__).parent
SECTORS = ("Technology", "Healthcare", "Financial")
ROWS = 1000  # of a sector
PRICES, TWEETS = "prices.csv.gz", "tweets_by_stock_day.csv.gz"
SOURCE = (
    "StockNet (Xu and Cohen 2018, MIT licence; prices from Yahoo Finance, tweets from Twitter): "
    "https://github.com/yumoxu/stocknet-dataset. prices.csv.gz has ticker, sector, date, adj_close and volume; "
    "tweets_by_stock_day.csv.gz ticker, date, n_unique_tweets and text, a line a share and day"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="the folder that finance_stocknet_88_stocks lies in; absent: TUNEMERGE_DATA")
    folder = Path(parser.parse_args().data or os.environ.get("TUNEMERGE_DATA", "")) / "finance_stocknet_88_stocks"
    missing = [file for file in (PRICES, TWEETS) if not (folder / file).is_file()]
    if missing:
        sys.exit(f"{folder} lacks {', '.join(missing)}: {SOURCE}. Name the folder above with --data or TUNEMERGE_DATA")
    work = HERE / "work"
    work.mkdir(exist_ok=True)
    days(pd.read_csv(folder / PRICES), pd.read_csv(folder / TWEETS, keep_default_na=False)).to_csv(
        work / "days.csv.gz", index=False
    )
    study = tunemerge.Study.from_yaml(HERE / "study.yaml")
    study.run()
    shutil.copyfile(study.run_folder / "results.json", HERE / "results.json")
    shutil.copyfile(study.run_folder / "report.md", HERE / "results.md")


def days(prices: pd.DataFrame, tweets: pd.DataFrame) -> pd.DataFrame:
    """A line a share and trading day with tweets. All columns are known when the day has ended; `move` is 1 where the
    share then moves more, up or down, than in the middle of its last 60 days."""
    parts = []
    for ticker, share in prices.dropna(subset=["adj_close"]).sort_values("date").groupby("ticker"):
        change = 100 * np.log(share["adj_close"]).diff()
        moves = change.abs()
        known = {f"move_{span}": moves.rolling(span).mean() for span in (2, 3, 5, 20)}
        usual = moves.rolling(60).median()
        volume = np.log(share["volume"].clip(lower=1))
        columns = {
            "ticker": ticker,
            "sector": share["sector"],
            "date": share["date"],
            "move_1": moves / usual,
            **{name: value / usual for name, value in known.items()},
            "trend_5": change.rolling(5).sum() / usual,
            "volume": volume - volume.rolling(20).mean(),
            "weekday": pd.to_datetime(share["date"]).dt.day_name(),
            "move": (moves.shift(-1) > usual).astype(float).where(moves.shift(-1).notna()),
        }
        parts.append(pd.DataFrame(columns).replace([np.inf, -np.inf], np.nan).dropna())
    told = tweets.rename(columns={"text": "tweets"})[["ticker", "date", "n_unique_tweets", "tweets"]]
    told["tweeted"] = np.log(told.pop("n_unique_tweets"))
    table = pd.concat(parts).merge(told, on=["ticker", "date"]).sort_values(["date", "ticker"])
    table = table[(table["tweets"].str.strip() != "") & table["sector"].isin(SECTORS)].astype({"move": int}).round(4)
    # Every so many lines of a sector, so that all days stay covered.
    chosen = [own.iloc[np.linspace(0, len(own) - 1, ROWS).astype(int)] for _, own in table.groupby("sector")]
    return pd.concat(chosen)


if __name__ == "__main__":
    main()
