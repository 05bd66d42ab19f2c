"""`tunemerge.evaluate`: every metric that the rows allow, and why not the others."""

import pytest

from small import TUNING, write_table
from tunemerge.errors import UsageError
from tunemerge.evaluate.single import evaluate
from tunemerge.tune.single import tune


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, tiny_bert):
    folder = tmp_path_factory.mktemp("evaluated")
    write_table(folder / "rows.csv", 40, 1)
    tune(tiny_bert, folder / "rows.csv", folder / "tuned", epochs=1, **TUNING)
    return folder / "tuned"


def rows(tmp_path, *lines):
    (tmp_path / "test.csv").write_text("\n".join(["wrote,verdict", *lines]) + "\n")
    return tmp_path / "test.csv"


def test_all_metrics_of_rows_of_both_labels(tuned, tmp_path):
    file = rows(tmp_path, *(f"good film {i},positive\nbad film {i},negative" for i in range(10)))
    result = evaluate(tuned, file, text="wrote", label="verdict", predictions=tmp_path / "p.parquet")
    assert set(result.metrics) == {"accuracy", "macro_f1", "auroc", "auprc", "brier", "log_loss", "ece"}
    assert not result.undefined
    assert result.rows == 20 and (tmp_path / "p.parquet").exists()


def test_one_label_leaves_out_what_ranks_with_the_reason(tuned, tmp_path):
    result = evaluate(tuned, rows(tmp_path, *(f"film {i},positive" for i in range(9))), text="wrote", label="verdict")
    assert {"accuracy", "log_loss"} <= set(result.metrics)
    assert result.undefined["auroc"] == "all rows have the label 'positive'"
    assert set(result.metrics).isdisjoint(result.undefined) and len(result.metrics) + len(result.undefined) == 7


def test_two_rows_still_have_an_accuracy(tuned, tmp_path):
    result = evaluate(tuned, rows(tmp_path, "good,positive", "bad,negative"), text="wrote", label="verdict")
    assert "accuracy" in result.metrics and "one unit is left out" in result.undefined["auroc"]


def test_what_it_refuses(tuned, tmp_path, tiny_bert):
    columns = dict(text="wrote", label="verdict")
    with pytest.raises(UsageError, match=r"labels 'furious' not among the model's: negative, positive"):
        evaluate(tuned, rows(tmp_path, "good,positive", "bad,furious"), **columns)
    with pytest.raises(UsageError, match="all rows belong to one unit"):
        evaluate(tuned, rows(tmp_path, "good,positive"), **columns)
