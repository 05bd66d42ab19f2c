"""Flips, counted by hand."""

import pandas as pd
import pytest

from tunemerge.errors import UsageError
from tunemerge.flips import flips

LABELS = {"t": ["no", "yes"], "u": ["no", "yes"]}


def predictions(answers: dict[str, list[list[int]]], target: list[int], task: str = "t") -> pd.DataFrame:
    """By arm and seed, the answered class of each row; classes are sure."""
    rows = [
        {"arm": arm, "seed": seed, "task": task, "split": "test", "row": 10 + i, "unit": f"u{i}", "target": target[i],
         "logit_0": -2.0 * answer, "logit_1": 2.0 * answer - 2, "weight": 1.0}
        for arm, by_seed in answers.items()
        for seed, given in enumerate(by_seed)
        for i, answer in enumerate(given)
    ]  # fmt: skip
    return pd.DataFrame(rows)


TABLE = predictions({"a": [[1, 1, 0, 0], [1, 0, 0, 1]], "b": [[0, 1, 1, 0], [0, 1, 0, 0]]}, [1, 1, 0, 0])
# row 10: a right, b wrong in both seeds; row 11: b right, a wrong in seed 1; row 12: a right in seed 0 only where b is
# wrong; row 13: a wrong in seed 1


def test_rows_that_flip_by_seeds():
    found = flips(TABLE, LABELS, "a", "b")
    assert found["row"].tolist() == [10, 12, 11, 13]
    assert found["gained"].tolist() == [2, 1, 0, 0] and found["lost"].tolist() == [0, 0, 1, 1]
    assert found["target"].tolist() == ["yes", "no", "yes", "no"] and set(found["seeds"]) == {2}
    # the answers are those of the seeds in which the row flips: one is right, the other wrong
    assert found["a"].tolist() == ["yes", "no", "no", "yes"] and found["b"].tolist() == ["no", "yes", "yes", "no"]
    assert found.loc[0, "lead"] == pytest.approx(0.7615942)


def test_the_other_way_round_gains_are_losses():
    one, other = flips(TABLE, LABELS, "a", "b"), flips(TABLE, LABELS, "b", "a")
    assert one.set_index("row")["gained"].to_dict() == other.set_index("row")["lost"].to_dict()


def test_an_arm_and_itself_flip_nothing():
    assert flips(TABLE, LABELS, "a", "a").empty


def test_tasks_texts_and_validation_rows():
    both = pd.concat([TABLE, TABLE.assign(task="u"), TABLE.assign(split="validation", row=99)])
    texts = pd.DataFrame({"task": ["t", "u"], "row": [10, 10], "text": ["one", None]})
    found = flips(both, LABELS, "a", "b", texts=texts)
    assert set(found["task"]) == {"t", "u"} and 99 not in set(found["row"])
    assert found[found["row"] == 10].set_index("task")["text"].to_dict() == {"t": "one", "u": None}
    assert set(flips(both, LABELS, "a", "b", task="u")["task"]) == {"u"}


def test_unknown_names():
    with pytest.raises(UsageError, match="unknown arm 'c'"):
        flips(TABLE, LABELS, "a", "c")
    with pytest.raises(UsageError, match="unknown task 'x'"):
        flips(TABLE, LABELS, "a", "b", task="x")
