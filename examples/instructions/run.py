"""A small language model that says what a bank's customers are asking: cards, top-ups and cash, transfers.

    python examples/instructions/run.py --data DIR

Makes what is missing (the base in examples/work, questions in work/), runs study.yaml, and puts results.json beside it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import pandas as pd

import tunemerge

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from small_lm import TEXTS, find_data, make_base  # noqa: E402

BANKING = "banking77/banking77.csv.gz"
SOURCE = {BANKING: "BANKING77, github.com/PolyAI-LDN/task-specific-datasets banking_data (as one CSV), CC BY 4.0"}
TASKS = {"topups": ("top_up", "topping", "cash", "atm"), "transfers": ("transfer", "beneficiary"), "cards": ("card",)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="the folder that banking77 and lm_text_domains lie in; absent: TUNEMERGE_DATA")
    folder = find_data(parser.parse_args().data, {**TEXTS, **SOURCE})
    (HERE / "work").mkdir(exist_ok=True)
    rest = pd.read_csv(folder / BANKING, keep_default_na=False).drop_duplicates("text")
    for task, words in TASKS.items():
        mine = rest["label"].str.lower().str.contains("|".join(words))
        rows = [
            {"prompt": text, "completion": label.replace("_", " ").lower()}
            for text, label in zip(rest[mine]["text"], rest[mine]["label"], strict=True)
        ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (HERE / "work" / f"{task}.jsonl").write_text(lines, encoding="utf-8")
        rest = rest[~mine]
    make_base(folder)
    study = tunemerge.Study.from_yaml(HERE / "study.yaml")
    study.run()
    shutil.copyfile(study.run_folder / "results.json", HERE / "results.json")
    shutil.copyfile(study.run_folder / "report.md", HERE / "results.md")


if __name__ == "__main__":
    main()
