"""Studies of series, from long tables to the report: one cut in time for all tasks, stored predictions."""

import json

import numpy as np
import pandas as pd
import pytest

from series import tiny_series, waves
from small import TUNING, run
from tunemerge.findings import FindingsError
from tunemerge.stats.metrics import METRICS
from tunemerge.study.study import Study

ORDERS = ["merge_then_tune", "tune_then_merge"]


def study(folder, base, task, **changes):
    for number, name in enumerate("ab"):
        if not (folder / f"{name}.csv").exists():
            waves(3, 100, number, start=f"2024-01-{1 + 10 * number:02}").to_csv(folder / f"{name}.csv", index=False)
    content = {
        "name": "series",
        "base": str(base),
        "task": task,
        "tasks": {n: {"data": f"{n}.csv", "context": 16} for n in "ab"},
        "splits": {"by": "time", "column": "time", "source": 0.3},
        "methods": ["linear"],
        "strategies": ORDERS,
        "candidates": 2,
        "budget": {"steps": 4},
        "pool_budget": {"steps": 4},
        "seeds": 2,
        "tuning": {**TUNING, "evaluations": 1},
        **changes,
    }
    return Study.from_dict(content, folder, folder / "work")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_series(tmp_path_factory.mktemp("base") / "mixer", "patchtsmixer", 16)


@pytest.fixture(scope="module")
def forecast(tmp_path_factory, base):
    folder = tmp_path_factory.mktemp("forecast")
    tasks = {n: {"data": f"{n}.csv", "context": 16, "horizon": 4, "season": 4} for n in "ab"}
    made = study(folder, base, "forecasting", tasks=tasks)
    return made, run(made)


def test_no_expert_has_seen_anothers_test_period(forecast):
    made, _ = forecast
    rows = made.plan().rows
    parts = {
        (name, split): rows.tables[leaf.digest]
        for name, task in rows.tasks.items()
        for split, leaf in task.parts[0].items()
    }
    begins = min(parts[n, "test"]["time"].min() for n in "ab")
    chosen = min(parts[n, "validation"]["time"].min() for n in "ab")
    for name in "ab":
        assert parts[name, "validation"]["known"].max() <= begins
        assert max(parts[name, s]["known"].max() for s in ("source", "adapt")) <= chosen
        assert set(parts[name, "test"]["unit"]) == {"s0", "s1", "s2"}


def test_forecasts_are_scored_per_row_against_every_simple_control(forecast):
    made, results = forecast
    arms = {a.name: a for a in results.arms}
    assert {"naive", "seasonal_naive", "drift", "ridge"} <= set(arms)
    assert results.metric == "mase"
    # A season of four days is all there is: its naive forecast has about the error of its own past.
    assert 0.5 < arms["seasonal_naive"].test.value < 1.5 < arms["naive"].test.value
    table = pd.read_parquet(made.run_folder / "predictions.parquet")
    own = table[(table["arm"] == "naive") & (table["task"] == "a") & (table["split"] == "test")]
    own = own[own["seed"] == 0]
    target = own[[f"target_{i}" for i in range(5)]].to_numpy()
    outputs = own[[f"output_{i}" for i in range(4)]].to_numpy()
    again = METRICS["mase"].fn(target, outputs, own["weight"].to_numpy())
    assert again == pytest.approx(arms["naive"].tasks["a"].metrics["mase"])


def test_returns_have_a_portfolio_for_every_arm(tmp_path, base):
    tasks = {n: {"data": f"{n}.csv", "context": 16, "horizon": 2, "cost": 20} for n in "ab"}
    made = study(tmp_path, base, "returns", tasks=tasks, budget={"steps": 2}, pool_budget={"steps": 2}, seeds=1)
    results = run(made)
    arms = {a.name: a for a in results.arms}
    zero = arms["zero"].tasks["a"].metrics
    assert zero["sharpe"] == zero["portfolio_return"] == zero["information_coefficient"] == 0
    assert arms["momentum"].tasks["a"].metrics["portfolio_volatility"] > 0
    own = arms["momentum"].portfolio
    assert own.cost == 20 and len(own.days) == len(own.worth) > 5 and own.drawdown > 0
    assert set(arms["zero"].portfolio.worth) == {1.0}
    assert "<title>momentum: " in (made.run_folder / "report.html").read_text("utf-8")
    fitted = json.loads((made.run_folder / "model" / "tunemerge_fitted.json").read_text())
    assert np.isfinite(fitted["mean"]) and fitted["std"] > 0
    tested = pd.read_parquet(made.run_folder / "predictions.parquet").query("split == 'test'")
    assert set(tested["target_3"]) == {20 / 1e4} and (tested["target_1"] % 1 == 0).all()


def test_what_looks_ahead_or_does_not_fit_the_base_is_found_before_anything_runs(tmp_path, base):
    whole = waves(3, 100)
    whole[whole["time"] < "2024-03-01"].to_csv(tmp_path / "early.csv", index=False)
    whole.to_csv(tmp_path / "all.csv", index=False)
    files = {"adapt": "all.csv", "source": "all.csv", "validation": "early.csv", "test": "all.csv"}
    with pytest.raises(FindingsError) as caught:
        run(study(tmp_path, base, "forecasting", tasks={"a": {"files": files, "context": 16}}, splits=None))
    assert "look-ahead" in {f.code for f in caught.value.findings}
    tasks = {"a": {"data": "all.csv", "context": 20}, "b": {"data": "all.csv", "context": 16}}
    with pytest.raises(FindingsError) as caught:
        run(study(tmp_path, base, "forecasting", tasks=tasks, splits={"by": "time", "column": "value"}))
    found = {f.code: f for f in caught.value.findings}
    assert "say `column: time`" in found["other-time"].remedy
    with pytest.raises(FindingsError) as caught:
        run(study(tmp_path, base, "forecasting", tasks=tasks))
    found = {f.code: f for f in caught.value.findings}
    assert (
        "context 16, a has 20" in found["options-differ"].message
        and "context_length is 16" in found["unfit-model"].message
    )
