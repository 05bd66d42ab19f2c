"""Handwritten digits of MNIST and USPS, read by one small network.

    python examples/digits/run.py --data DIR

Runs study.yaml and puts results.json and results.md beside it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

import tunemerge

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from small_lm import find_data  # noqa: E402

FILES = {
    "mnist_10k/mnist_10k.npz": "the 10,000 test digits of MNIST (yann.lecun.org/exdb/mnist), CC BY-SA 3.0: x_train, "
    "y_train, x_test, y_test with 2,000 of them as x_test",
    "usps/usps.npz": "USPS digits (hastie.su.domains/ElemStatLearn, 'ZIP code'), no formal licence: the same arrays "
    "of its official parts, 16 x 16",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="the folder that mnist_10k/ and usps/ lie in; absent: TUNEMERGE_DATA")
    os.environ["TUNEMERGE_DATA"] = str(find_data(parser.parse_args().data, FILES).resolve())
    study = tunemerge.Study.from_yaml(HERE / "study.yaml")
    study.run()
    shutil.copyfile(study.run_folder / "results.json", HERE / "results.json")
    shutil.copyfile(study.run_folder / "report.md", HERE / "results.md")


if __name__ == "__main__":
    main()
