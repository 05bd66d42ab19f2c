"""The learning-rate finder: a real range test of a tiny model, and what is read off a curve."""

import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from small import TUNING, write_table
from tunemerge import find_learning_rate
from tunemerge.cli.app import app
from tunemerge.errors import UsageError
from tunemerge.tune.find_rate import suggest
from tunemerge.tune.single import tune

SETTINGS = {k: v for k, v in TUNING.items() if k != "learning_rate"}


@pytest.fixture
def rows(tmp_path):
    write_table(tmp_path / "rows.csv", 200, 1)
    return tmp_path / "rows.csv"


def test_near_the_suggestion_a_tuning_learns_and_far_below_it_does_not(tmp_path, tiny_bert, rows):
    found = find_learning_rate(tiny_bert, rows, steps=200, low=1e-4, high=0.1, **SETTINGS)
    assert 2e-3 < found.suggestion < 2e-2 and found.diverged
    assert found.examples == len(found.curve) * SETTINGS["batch_size"]
    assert [p.rate for p in found.curve] == pytest.approx(np.geomspace(1e-4, 0.1, 200)[: len(found.curve)])
    assert [p.name for p in tmp_path.iterdir()] == ["rows.csv"]  # nothing was written
    losses = {}
    for part in (1000, 1):
        rate = found.suggestion / part
        tuned = tune(tiny_bert, rows, tmp_path / "out", validation=rows, epochs=5, learning_rate=rate, **SETTINGS)
        losses[part] = tuned.curve[-1].validation_loss
        shutil.rmtree(tmp_path / "out")
    assert losses[1000] > 0.65 and losses[1] < 0.4, found.suggestion


def test_the_same_curve_again_and_the_command_prints_it(tiny_bert, rows):
    settings = [s for key, value in SETTINGS.items() for s in ("-s", f"{key}={value}")]
    done = CliRunner().invoke(app, ["tune", str(tiny_bert), str(rows), "--find-rate", "--json", *settings])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    found = find_learning_rate(tiny_bert, rows, **SETTINGS)
    assert document["suggestion"] == found.suggestion and document["diverged"] == found.diverged
    assert [p["loss"] for p in document["curve"]] == [p.loss for p in found.curve]
    assert "suggestion" in done.stderr and "steepest" in done.stderr


def test_the_steepest_fall_is_found_and_none_where_nothing_falls():
    rates = np.geomspace(1e-6, 1, 100)
    falling = 0.7 - 0.6 / (1 + np.exp(-8 * (np.log10(rates) + 3)))  # steepest at 1e-3
    noise = np.random.default_rng(0).normal(0, 0.02, 100)
    assert np.log10(suggest(rates, falling + noise)) == pytest.approx(-3, abs=0.2)
    assert suggest(rates, 0.7 + np.zeros(100)) is None
    assert suggest(rates, 0.7 + np.linspace(0, 1, 100)) is None


def test_what_can_not_be_tested_is_refused(tiny_bert, rows):
    for wrong, said in (({"low": 1.0, "high": 1e-3}, "0 < low < high"), ({"steps": 5}, "at least"),
                        ({"batch_siz": 8}, "did you mean 'batch_size'")):  # fmt: skip
        with pytest.raises(UsageError, match=said):
            find_learning_rate(tiny_bert, rows, **wrong)
