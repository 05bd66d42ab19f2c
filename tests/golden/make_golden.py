"""Make the golden store of this version: `python tests/golden/make_golden.py`, once a release; older ones stay.

It holds a small real study (tables, base, store, plan) and fourteen steps of the tests' own operations, whose keys
depend on no version of torch. A later release must open, list and verify it, and reuse every step whose key it shares.
"""

from __future__ import annotations

import os
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

import yaml

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE.parent / "graph"))

SPLITS = {"test": 30, "validation": 10, "adapt": 16, "source": 24}
STUDY = {
    "name": "golden",
    "base": "base",
    "tasks": {n: {"data": f"{n}.csv", "splits": SPLITS} for n in "ab"},
    "strategies": ["merge_then_tune", "tune_then_merge"],
    "methods": ["linear"],
    "candidates": 2,
    "budget": {"examples": 16},
    "pool_budget": {"epochs": 1},
    "seeds": 1,
    "tuning": {"batch_size": 8, "learning_rate": 0.003, "evaluations": 1, "max_length": 32, "precision": "float32"},
}


def make_base(folder: Path) -> None:
    """A BERT of some 5,000 weights with a WordPiece tokenizer."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    from corpus import WORDS

    words = list(dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=32).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)


def make(folder: Path) -> None:
    import graph_operations as ops

    from small import write_table
    from tunemerge.graph.executors.inline import InlineExecutor
    from tunemerge.graph.run import run_plan
    from tunemerge.study.study import Study

    make_base(folder / "base")
    for number, name in enumerate("ab"):
        write_table(folder / f"{name}.csv", 80, number)
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    study = Study.from_yaml(folder / "study.yaml", workdir=folder)
    study.run(executor=InlineExecutor())
    run_plan(ops.diamond(), study.store, InlineExecutor())


def pack(folder: Path, out: Path) -> None:
    """What a later release needs to see; nothing that says where and when it was made."""

    def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        path = Path(member.name)
        if ("runs" in path.parts and path.suffix and path.name != "plan.json") or path.name == "model":
            return None
        if path.suffix == ".lock" or {"tmp", "locks", "holds", "logs"} & set(path.parts):
            return None
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mtime = 0
        return member

    with tarfile.open(out, "w:xz") as archive:
        for name in (".tunemerge", "a.csv", "b.csv", "base", "runs", "study.yaml"):
            archive.add(folder / name, name, filter=anonymous)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as scratch:
        made = HERE / f"{version('tunemerge')}.tar.xz"
        make(Path(scratch))
        pack(Path(scratch), made)
        print(f"{made}: {made.stat().st_size:,} bytes")
