"""Simple models of tables from packages that need not be there: what they learn, and where one site has little."""

import numpy as np
import pandas as pd
import pytest

from tunemerge.tasks.rows import Rows
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.table_columns import PREFIX
from tunemerge.tasks.table_controls import EXTRAS
from tunemerge.tasks.task import TASKS

PACKAGES = ("lightgbm", "catboost")
OPTIONS = {"numeric": ["age", "dose"], "categorical": {"sex": ["f", "m"]}}


def table_rows(folder, kind: str, n: int = 200, **columns) -> tuple[Spec, Rows]:
    rng = np.random.default_rng(0)
    age, sex = rng.normal(50, 10, n), rng.choice(["f", "m"], n)
    score = (age - 50) / 10 + 2.0 * (sex == "m")
    target = {"label": np.where(score > 1, "ill", "well")} if "class" in kind else {"value": score}
    table = pd.DataFrame({"unit": map(str, range(n)), "age": age, "dose": np.nan, "sex": sex, **target, "weight": 1.0})
    table.loc[::9, "age"], table.loc[::11, "sex"] = np.nan, None
    table = table.assign(**columns).rename(columns={c: f"{PREFIX}{c}" for c in ("age", "dose", "sex")})
    table.to_parquet(folder / "rows.parquet", index=False)
    spec = Spec(kind, ("ill", "well") if "class" in kind else ("value",), OPTIONS)
    return spec, TASKS[kind].read([folder / "rows.parquet"], spec)


@pytest.mark.filterwarnings("error::UserWarning")  # LightGBM says by one that it takes a category for a number
@pytest.mark.parametrize("package", PACKAGES)
def test_they_learn_numbers_and_categories(tmp_path, package):
    pytest.importorskip(package)
    spec, rows = table_rows(tmp_path, "table-classification")
    found = EXTRAS[package].run(spec, rows, rows, 0)
    assert np.mean(found.argmax(axis=1) == rows.target) > 0.9
    assert np.allclose(np.exp(found).sum(axis=1), 1)
    spec, rows = table_rows(tmp_path, "table-regression")
    found = EXTRAS[package].run(spec, rows, rows, 0)
    assert np.corrcoef(found[:, 0], rows.target)[0, 1] > 0.9


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("n", [3, 30])
def test_a_site_with_few_rows_of_one_answer_is_fitted(tmp_path, package, n):
    pytest.importorskip(package)
    spec, rows = table_rows(tmp_path, "table-classification", n, label="well")
    assert (EXTRAS[package].run(spec, rows, rows, 0).argmax(axis=1) == 1).all()
    spec, rows = table_rows(tmp_path, "table-regression", n, value=3.0)
    assert EXTRAS[package].run(spec, rows, rows, 0)[:, 0] == pytest.approx([3.0] * n)
    spec, rows = table_rows(tmp_path, "table-classification", n, age=1.0, sex="f")  # nothing to learn from
    assert np.isfinite(EXTRAS[package].run(spec, rows, rows, 0)).all()
