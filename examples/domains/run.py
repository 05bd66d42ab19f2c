"""Small language models of text domains: a base that has read Wikipedia and speeches; recipes, poems and plays.

    python examples/domains/run.py --data DIR

Makes what is missing (the base in examples/work, texts in work/), runs study.yaml, and puts results.json beside it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import tunemerge

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from small_lm import TEXTS, find_data, make_base, read  # noqa: E402

DOMAINS = {
    "lm_text_domains/recipes.txt.gz": "Mrs Beeton's Every-Day Cookery, Project Gutenberg 50191, public domain",
    "lm_text_domains/poems.txt.gz": "Leaves of Grass, github.com/standardebooks/walt-whitman_leaves-of-grass, CC0",
    "lm_text_domains/shakespeare.txt.gz": "github.com/karpathy/char-rnn data/tinyshakespeare, public domain",
}
CHARACTERS = 400_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="the folder that lm_text_domains lies in; absent: TUNEMERGE_DATA")
    folder = find_data(parser.parse_args().data, {**TEXTS, **DOMAINS})
    (HERE / "work").mkdir(exist_ok=True)
    for file in DOMAINS:
        name = Path(file).name.removesuffix(".gz")
        (HERE / "work" / name).write_text(read(folder / file)[:CHARACTERS], encoding="utf-8")
    make_base(folder)
    study = tunemerge.Study.from_yaml(HERE / "study.yaml")
    study.run()
    shutil.copyfile(study.run_folder / "results.json", HERE / "results.json")
    shutil.copyfile(study.run_folder / "report.md", HERE / "results.md")


if __name__ == "__main__":
    main()
