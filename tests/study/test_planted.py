"""Studies whose outcome is known by construction; the verdict must say so.

The pool is four copies of one checkpoint (but for one number that no row uses), and there is one target. Then
merge_then_tune tunes that checkpoint with the whole budget, and tune_then_merge, since its four tunings are one and
the same, with a quarter of it: where more tuning helps the first must win, where more tuning harms the second must,
and where tuning does nothing neither may.
"""

import shutil

import pytest
from safetensors.numpy import load_file, save_file

from small import TUNING, run, small_study, write_table
from tunemerge.tune.single import tune

SPLITS = ("adapt", "validation", "test")


@pytest.fixture(scope="module")
def expert(tmp_path_factory, tiny_bert):
    """A model that knows the task."""
    folder = tmp_path_factory.mktemp("expert")
    write_table(folder / "rows.csv", 400, 77)
    tune(tiny_bert, folder / "rows.csv", folder / "model", epochs=8, **{**TUNING, "batch_size": 16})
    return folder / "model"


def copies(model, folder):
    """Four checkpoints that compute the same and are not the same files: the last word of the vocabulary differs."""
    for number in range(4):
        shutil.copytree(model, folder / f"copy{number}")
        (folder / f"copy{number}" / "tunemerge_tune.json").unlink(missing_ok=True)  # the weights are changed below
        weights = folder / f"copy{number}" / "model.safetensors"
        state = load_file(weights)
        (name,) = [n for n in state if n.endswith("word_embeddings.weight")]
        state[name][-2] += number  # "##z": no sentence has it
        save_file(state, weights, {"format": "pt"})
    return {f"copy{number}": str(folder / f"copy{number}") for number in range(4)}


def planted(folder, base, model, *, wrong, **changes):
    for number, split in enumerate(SPLITS):
        rows = {"adapt": 64, "validation": 40, "test": 300}[split]
        write_table(folder / f"{split}.csv", rows, number, wrong=wrong and split == "adapt")
    study = {
        "tasks": {"t": {"files": {s: f"{s}.csv" for s in SPLITS}}},
        "target": "t",
        "pool": copies(model, folder),
        "strategies": ["merge_then_tune", "tune_then_merge"],
        "methods": ["linear"],
        "candidates": 1,
        "seeds": 5,
        "margin": 0.02,
        **changes,
    }
    return run(small_study(folder, base, **study))


def test_more_tuning_helps_so_merge_then_tune_wins(tmp_path, tiny_bert):
    results = planted(tmp_path, tiny_bert, tiny_bert, wrong=False, budget={"steps": 96})
    assert results.verdict.kind == "better", (results.verdict.sentence, [a.test_by_seed for a in results.arms])
    assert results.verdict.winner == "merge_then_tune/linear"
    assert results.verdict.handed_back == "merge_then_tune/linear"


def test_more_tuning_harms_so_tune_then_merge_wins(tmp_path, tiny_bert, expert):
    tuning = {**TUNING, "learning_rate": 4e-4, "select": "last"}
    results = planted(tmp_path, tiny_bert, expert, wrong=True, budget={"steps": 96}, tuning=tuning)
    assert results.verdict.kind == "better", (results.verdict.sentence, [a.test_by_seed for a in results.arms])
    assert results.verdict.winner == "tune_then_merge/linear"
    assert results.verdict.handed_back == "tune_then_merge/linear"


def test_tuning_does_nothing_so_neither_wins(tmp_path, tiny_bert, expert):
    tuning = {**TUNING, "learning_rate": 1e-9}
    results = planted(tmp_path, tiny_bert, expert, wrong=False, budget={"steps": 16}, tuning=tuning)
    assert results.verdict.kind == "equivalent", results.verdict.sentence
    assert "take the cheapest" in results.verdict.sentence
