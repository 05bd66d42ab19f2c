"""`tunemerge.tune`: settings and columns by name, and what it refuses before anything is trained."""

import pytest

from small import TUNING, write_table
from tunemerge.errors import UsageError
from tunemerge.tasks.files import settings_of
from tunemerge.tune.config import TuneConfig
from tunemerge.tune.single import tune


def with_label(path, label):
    """Turn the first row's label into another one."""
    header, first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([header, f"{first.rpartition(',')[0]},{label}", *rest]) + "\n")


@pytest.fixture
def tuned(tmp_path, tiny_bert):
    write_table(tmp_path / "rows.csv", 40, 1)
    tune(tiny_bert, tmp_path / "rows.csv", tmp_path / "tuned", epochs=1, **TUNING)
    return tmp_path / "tuned"


def test_a_label_that_the_models_head_lacks_is_the_files_fault(tmp_path, tuned):
    write_table(tmp_path / "yelp.csv", 40, 2)
    with_label(tmp_path / "yelp.csv", "furious")
    with pytest.raises(UsageError) as e:
        tune(tuned, tmp_path / "yelp.csv", tmp_path / "out", **TUNING)
    assert "yelp.csv: label 'furious' not among those of" in str(e.value)
    assert "negative, positive" in str(e.value) and "study" not in str(e.value)
    assert not (tmp_path / "out").exists()


def test_validation_labels_that_training_lacks(tmp_path, tiny_bert):
    for name in ("train", "more"):
        write_table(tmp_path / f"{name}.csv", 40, 2)
    with_label(tmp_path / "more.csv", "furious")
    with pytest.raises(UsageError, match=r"more\.csv: label 'furious' not among those of .*train\.csv"):
        tune(tiny_bert, tmp_path / "train.csv", tmp_path / "out", validation=tmp_path / "more.csv", **TUNING)


def test_many_strange_labels_are_cut(tmp_path, tuned):
    (tmp_path / "rows2.csv").write_text("text,label\n" + "".join(f"text {i},l{i}\n" for i in range(30)))
    with pytest.raises(UsageError, match=r"labels 'l0', 'l1'.* and 22 more not among"):
        tune(tuned, tmp_path / "rows2.csv", tmp_path / "out", **TUNING)


def test_a_column_that_is_not_there_says_how_to_name_it(tmp_path, tiny_bert):
    (tmp_path / "rows.csv").write_text("ticket,what they wrote,verdict\n1,nice,happy\n2,bad,sad\n")
    with pytest.raises(UsageError) as e:
        tune(tiny_bert, tmp_path / "rows.csv", tmp_path / "out")
    assert "the columns are: ticket, what they wrote, verdict" in str(e.value) and "did you mean" not in str(e.value)
    assert "use --text NAME (in Python text='NAME')" in str(e.value)


def test_settings_are_known_by_name():
    assert settings_of([TuneConfig], {"learning_rate": 1e-4})[0].learning_rate == 1e-4
    with pytest.raises(UsageError) as e:
        settings_of([TuneConfig], {"learning_rat": 1, "batch_size": 0})
    assert "unknown setting 'learning_rat'; did you mean 'learning_rate'" in str(e.value)
    assert "batch_size: expected at least 1, found 0" in str(e.value)
    with pytest.raises(UsageError, match=r"^micro_batch 3 does not divide"):
        settings_of([TuneConfig], {"micro_batch": 3, "batch_size": 8})
