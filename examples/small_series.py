"""What the examples of series share: finding the data, a small PatchTSMixer with random weights, running a study."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd


def run_example(here: Path, file: str, missing: str, table: Callable[[Path], pd.DataFrame], **network: float) -> None:
    """Write table and base to `here`/work, run `here`/study.yaml, and put results.json and results.md beside it.

    Where `file` is not in the folder of --data or TUNEMERGE_DATA, `missing` says what to get, from where, and under
    which licence.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", help="the folder that the data's folder lies in; absent: TUNEMERGE_DATA")
    data = parser.parse_args().data or os.environ.get("TUNEMERGE_DATA")
    if data is None or not (Path(data) / file).is_file():
        sys.exit(
            f"{data or 'no folder is named'} lacks {file} (name the folder by --data or TUNEMERGE_DATA).\n{missing}"
        )
    import tunemerge

    work = here / "work"
    work.mkdir(exist_ok=True)
    table(Path(data) / file).to_csv(work / "table.csv.gz", index=False)
    _make_base(work / "base", **network)
    study = tunemerge.Study.from_yaml(here / "study.yaml")
    study.run()
    shutil.copyfile(study.run_folder / "results.json", here / "results.json")
    shutil.copyfile(study.run_folder / "report.md", here / "results.md")


def _make_base(folder: Path, **network: float) -> None:
    """Every model of the study starts from these weights."""
    from transformers import PatchTSMixerConfig, PatchTSMixerModel, set_seed

    set_seed(0)
    PatchTSMixerModel(PatchTSMixerConfig(**network)).save_pretrained(folder)
