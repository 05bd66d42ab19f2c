"""Columns, kinds, labels and splits are inferred from made tables, and what is unsure says so."""

import pandas as pd
import pytest

from corpus import sentences
from tunemerge.findings import FindingsError
from tunemerge.propose import columns as c
from tunemerge.propose.labels import as_labels
from tunemerge.propose.models import Given, match_models
from tunemerge.propose.tables import find_sources

N = 120


def table(**columns) -> pd.DataFrame:
    texts, labels = sentences(N, 3)
    return pd.DataFrame({"review": texts, "stars": labels, **columns})


def profile(frame):
    return {name: c.values_of(frame[name]) for name in frame}


def test_text_target_unit_and_weight_are_found():
    units = [f"p{i // 4}" for i in range(N)]
    frame = table(patient_id=units, weight=["1.5"] * N, row_id=range(N))
    seen = profile(frame)
    assert c.text_column(seen) == c.Guess("review", "the only column of texts")
    target = c.target_column(seen, {"review"})
    assert (target.column, target.sure) == ("stars", True)
    unit = c.unit_column(frame, seen, {"review", "stars"}, None)
    assert (unit.column, unit.sure, unit.why) == ("patient_id", True, "30 units of 4.0 rows")
    assert c.named_column(seen, "weight", ()) == "weight"
    # A number a row says nothing of what belongs together, and an id of some name is asked for.
    assert c.unit_column(frame[["review", "row_id"]], profile(frame[["review", "row_id"]]), (), None).column is None
    odd = frame.rename(columns={"patient_id": "box_id"})
    assert not c.unit_column(odd, profile(odd), (), None).sure


def test_what_could_be_two_columns_is_unsure():
    frame = table(reply=sentences(N, 4)[0], mood=["calm", "angry"] * (N // 2))
    seen = profile(frame)
    text = c.text_column(seen.__class__({k: seen[k] for k in ("reply", "review")}))
    assert text.column == "review" and text.sure  # one of them is called as texts are
    anonymous = profile(frame.rename(columns={"review": "a", "reply": "b"}))
    assert not c.text_column(anonymous).sure and set(c.text_column(anonymous).choices) == {"a", "b"}
    target = c.target_column(profile(frame.rename(columns={"stars": "tone"})), {"review", "reply"})
    assert not target.sure and set(target.choices) == {"tone", "mood"}


@pytest.mark.parametrize(
    ("values", "kind", "sure"),
    [
        (["0", "1"] * 60, "text-classification", True),
        ([f"intent {i % 40}" for i in range(120)], "text-classification", True),
        ([f"{i / 7:.3f}" for i in range(120)], "text-regression", True),
        ([str(i) for i in range(120)], "text-regression", False),
    ],
)
def test_kind_follows_from_the_targets_values(values, kind, sure):
    found = c.kind_of(c.values_of(pd.Series(values, dtype=object)))
    assert (found[0], found[2]) == (kind, sure)


def test_a_site_column_is_offered_never_taken():
    frame = table(site=["a", "b", "c"] * (N // 3))
    guess = c.site_column(frame, profile(frame), {"review", "stars"})
    assert guess.column == "site" and not guess.sure and guess.choices == ("site", c.NONE)
    few = table(site=["a"] * (N - 5) + ["b"] * 5)
    assert c.site_column(few, profile(few), ()).column is None


@pytest.mark.parametrize(
    ("raw", "names", "expected"),
    [
        (["0", "1"], ["negative", "positive"], {"0": "negative", "1": "positive"}),
        (["neg", "pos"], ["negative", "positive"], {"neg": "negative", "pos": "positive"}),
        (["Negative", "Positive"], ["positive", "negative"], {"Negative": "negative", "Positive": "positive"}),
        (["1", "2", "3"], ["1 star", "2 stars", "3 stars"], {"1": "1 star", "2": "2 stars", "3": "3 stars"}),
        (["a", "b"], ["b", "a", "c"], {}),
        (["1", "2"], ["negative", "positive"], None),
        (["yes", "no"], ["LABEL_0", "LABEL_1"], None),
    ],
)
def test_raw_labels_are_named_after_a_head_or_not_at_all(raw, names, expected):
    assert as_labels(raw, names) == expected


def test_models_match_tasks_by_name_then_by_labels():
    tasks = {"amazon": ("no", "yes"), "trec": ("city", "person"), "yelp": ("no", "yes")}
    amazon = Given("m/bert-amazon-2", "bert-amazon-2", False, ("no", "yes"))
    other = Given("m/x", "x", False, ("person", "city"))
    odd = Given("m/y", "y", False, ("no", "yes"))
    pool, left = match_models([amazon, other, odd], tasks)
    assert {task: (model, why) for task, (model, why) in pool.items()} == {
        "amazon": (amazon, "its name"),
        "trec": (other, "the labels of its head"),
    }
    assert left == [odd]


def test_files_and_folders_become_tasks_and_splits(tmp_path):
    for place in ("amazon/train.csv", "amazon/validation.csv", "amazon/test.csv", "yelp_train.csv", "yelp_dev.csv"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        table().to_csv(tmp_path / place, index=False)
    (tmp_path / "README.md").write_text("not data")
    amazon, yelp = find_sources([tmp_path])
    assert amazon.name == "amazon" and amazon.given and set(amazon.files) == {"train", "validation", "test"}
    assert yelp.name == "yelp" and not yelp.given and yelp.files == {"data": tmp_path / "yelp_train.csv"}
    assert yelp.unused == ("yelp_dev.csv",)
    with pytest.raises(FindingsError) as refused:
        find_sources([tmp_path / "nowhere.csv", tmp_path / "README.md"])
    assert {f.code for f in refused.value.findings} == {"no-such-data", "bad-data"}
